#!/bin/sh
# What became of a job, in the word that Snakemake expects. EDIT: this asks Slurm.
state=$(scontrol --oneliner show job "$1" 2>/dev/null | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p')
case $state in
  COMPLETED) echo success ;;
  PENDING | CONFIGURING | RUNNING | SUSPENDED | COMPLETING | REQUEUED | PREEMPTED) echo running ;;
  *) echo failed ;;
esac
