from siglip_study.captioning import VERSION as CAPTIONS_VERSION


# Nothing that comes of the report's clips alone stands before a training, but what it captions while
# it is loaded: a clip more there must not train again, nor hide what else has changed.
rule stage1:
    input:
        clips=[CLIPS[split] for split in TRAINED_ON],
        features=lambda wildcards: trained_on(stage1_run(wildcards)),
        # Waited for, never a reason to train again.
        begin=ancient(PATHS.training_may_begin),
    output:
        checkpoint=directory(PATHS.stage1("{stage1}") / "checkpoint"),
        steps=PATHS.stage1("{stage1}") / "steps.parquet",
        epochs=PATHS.stage1("{stage1}") / "epochs.parquet",
        stage=PATHS.stage1("{stage1}") / "stage.json",
    log:
        PATHS.log("stage1", "{stage1}"),
    benchmark:
        PATHS.benchmark("stage1", "{stage1}")
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    resources:
        **TRAINING_GPUS,
    params:
        run_keys=lambda wildcards: stage1_run(wildcards).stage1_keys(),
        resume=lambda wildcards: str(
            STUDY.stage1_resume(
                STUDY.stage1_cells[wildcards.stage1],
                training_code(stage1_run(wildcards).projector),
            )
        ),
        code=lambda wildcards: training_code(stage1_run(wildcards).projector),
    message:
        "stage 1 of {wildcards.stage1}: the projector alone"
    script:
        "../scripts/stage1.py"


rule stage2:
    input:
        clips=[CLIPS[split] for split in TRAINED_ON],
        features=lambda wildcards: trained_on(cell_of(wildcards).run),
        begin=ancient(PATHS.training_may_begin),
        # Read only to caption while the model is loaded: a new report clip must not retrain.
        captioned_clips=lambda wildcards: ancient(captioned_beside(wildcards, CLIPS)),
        captioned=lambda wildcards: ancient(
            captioned_beside(wildcards, features_of(cell_of(wildcards).run))
        ),
        stage1=lambda wildcards: stage1_files(wildcards, "checkpoint"),
        stage1_facts=lambda wildcards: stage1_files(wildcards, "stage.json"),
    output:
        checkpoint=directory(PATHS.run("{cell}") / "checkpoint"),
        steps=PATHS.run("{cell}") / "steps.parquet",
        epochs=PATHS.run("{cell}") / "epochs.parquet",
        cell=PATHS.run("{cell}") / "cell.json",
    log:
        PATHS.log("stage2", "{cell}"),
    benchmark:
        PATHS.benchmark("stage2", "{cell}")
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    resources:
        **TRAINING_GPUS,
    params:
        run_keys=lambda wildcards: cell_of(wildcards).run.keys(),
        resume=lambda wildcards: str(
            STUDY.stage2_resume(
                cell_of(wildcards), training_code(cell_of(wildcards).run.projector)
            )
        ),
        code=lambda wildcards: training_code(cell_of(wildcards).run.projector),
    message:
        "stage 2 of {wildcards.cell}: projector and LoRA"
    script:
        "../scripts/stage2.py"


rule captions:
    input:
        clips=lambda wildcards: captioned(wildcards, CLIPS),
        features=lambda wildcards: captioned(
            wildcards, features_of(cell_of(wildcards).run)
        ),
        # For the mean feature, a diagnostic.
        train_clips=CLIPS["train"],
        train=lambda wildcards: features_of(cell_of(wildcards).run)["train"],
        checkpoint=checkpoint_captioned,
    output:
        captions=PATHS.run("{cell}") / "captions.json",
        losses=PATHS.run("{cell}") / "losses.parquet",
    log:
        PATHS.log("captions", "{cell}"),
    benchmark:
        PATHS.benchmark("captions", "{cell}")
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    resources:
        **GPU,
    params:
        captions=CONFIG.captions.model_dump(exclude={"batch_size"}),
        version=CAPTIONS_VERSION,
    message:
        "captions of {wildcards.cell}"
    script:
        "../scripts/captions.py"
