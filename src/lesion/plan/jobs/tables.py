"""Jobs of the stages `tables` and `report`."""

from collections.abc import Mapping

from lesion.plan.jobs.rule import Rule
from lesion.plan.outputs import tables_inputs
from lesion.study import Study
from lesion.study.job import Behaviours
from lesion.tables.jobs import Experiment, Origin, ReportJob, StudyJob, TablesJob


def tables(study: Study, wildcards: Mapping[str, str]) -> TablesJob:
    """The specification of the tables, given all measurements."""
    return TablesJob(
        inputs=[one for one, _ in tables_inputs(study)],
        models=list(study.models),
        behaviours=Behaviours(
            harm=study.of_role("harm"),
            benign=study.of_role("benign"),
            refusal=study.of_role("refusal"),
        ),
        main=study.judgements.primary,
        threshold=study.judgements.threshold,
        near_duplicate=study.pairs.near_duplicate,
        limit=study.masks.max_benign_increase,
        stages=study.training_stages,
        trained={name: _origin(study, name) for name in study.trained},
        retraining={
            name: Experiment(narrow=one.narrow, judge=one.judge)
            for name, one in study.retraining.items()
        },
        resamples=study.tables.resamples,
        confidence=study.tables.confidence,
        seed=study.seed,
    )


def _origin(study: Study, model: str) -> Origin:
    one = study.models[model]
    assert one.train is not None
    return Origin(base=one.base or "new", method=one.train.method, seed=one.train.seeds[0])


def study_(study: Study, wildcards: Mapping[str, str]) -> StudyJob:
    """The config that the page shows and the commands on the tables read."""
    return StudyJob(config=study.model_dump(mode="json", exclude={"report"}))


def report(study: Study, wildcards: Mapping[str, str]) -> ReportJob:
    """The specification of the page."""
    return ReportJob(examples=study.report.examples)


RULES = {
    "tables": Rule(tables, ("lesion.tables.run",)),
    "study": Rule(study_, ("lesion.tables.run",)),
    "report": Rule(report, ("lesion.report.page",)),
}
