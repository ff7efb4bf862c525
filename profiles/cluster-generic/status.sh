#!/bin/sh
# What became of a job, in the word that Snakemake expects. EDIT: this asks Slurm.
command -v scontrol >/dev/null || { echo "$0: there is no scontrol here" >&2; exit 127; }
if answer=$(scontrol --oneliner show job "$1" 2>&1); then
  state=$(printf '%s\n' "$answer" | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p')
else
  case $answer in
    # Slurm does not know it any more: it ended minutes ago (MinJobAge), and nobody can tell how.
    # After "failed" it is submitted again; "running" would be waited for without end.
    *"Invalid job id"*) state=FORGOTTEN ;;
    # Slurm cannot be asked now (its controller starts anew, the network is down), and the job may be
    # at work: "failed" would have it submitted again beside itself.
    *) state= ;;
  esac
fi
case $state in
  COMPLETED) echo success ;;
  BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) echo failed ;;
  SPECIAL_EXIT | FORGOTTEN) echo failed ;;
  *) echo running ;;
esac
