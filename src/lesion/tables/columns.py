"""What every table and every column says, for the reference of the tables."""

from collections.abc import Iterator

from lesion.tables.schemas import SCHEMAS

PURPOSES = {
    "measurements": "Every number of every variant: one row for each behaviour (and their total), "
    "attack, judge and metric.",
    "claims": "The outcomes of the paper's claims: one row for each number that a claim is "
    "compared with.",
    "judges": "Agreement of the judges with labels, measured by cross-validation.",
    "stages": "How separable harm is at each stage of a training: one row for each stage, mask "
    "family and metric, the mean of the stage's seeds.",
    "variants": "One row for each name that other tables have as `variant` or `arm`; the key is "
    "`variant` with `kind`, since an arm may have the name of its mask.",
    "curve": "The NLL that masks of growing size add: one row for each family, size and behaviour.",
    "halving": "The fewest weights that halve harm: one row for each family and measure.",
    "equal_cost": "Masks that cost the same on benign text: one row for each mask, limit and "
    "metric, over the test prompts of all behaviours of a role, each with the same weight.",
    "overlap": "Every two behaviours' masks, compared with three null models: weights drawn from "
    "all candidates (`uniform`), within each matrix (`matrix`), and within each matrix with both "
    "masks' row and column counts (`rows_columns`).",
    "sharing": "Weights that several harm types' masks have in common, by the size of these masks.",
    "where": "The number of each mask's weights in each matrix.",
    "concentration": "How unevenly a mask is distributed over the rows (outputs) and columns "
    "(inputs) of each matrix that it touches. Few weights are never evenly distributed, so compare "
    "with a random mask of the same size.",
    "lines": "The rows and columns with the most of each mask's weights, the fullest first.",
    "sweep": "Every (p, q, contrast) that was tried, measured on the validation split. Likelihoods "
    "are in nats per token.",
    "judge_controls": "Answers without harm, as each judge of harm scores them, and whether the "
    "judge passes.",
    "pairs": "The number of pairs of each outcome.",
    "examples": "Completions with the scores of the offline judges and of the primary judge of "
    "harm.",
    "training": "The loss of each model that the study trains: one row for each optimiser step.",
    "retraining": "Trainings in memory: one row for each arm, step, behaviour and metric, and rows "
    "without a step that summarise an arm. Seeds are averaged prompt by prompt, so intervals cover "
    "prompts and not seeds.",
}
"""A sentence about every table."""

_EVERYWHERE = {
    "model": "Name of the model in the study.",
    "variant": "The ablated mask, or `unmodified`.",
    "level": "`behaviour` for the prompts of one behaviour, `total` for the unweighted mean over "
    "all behaviours of a role.",
    "behaviour": "Name of the behaviour; null where `level` is `total`.",
    "role": "Role of the behaviour: `harm`, `matched`, `benign`, `refusal`; of other prompts "
    "`lookalike`, `explanation`, `utility`, or `narrow` and `broad` (questions of `retraining`).",
    "attack": "How the prompt was presented, such as `direct` or `prefill`; `none` where nothing "
    "was asked.",
    "judge": "The judge whose scores these are; `none` for metrics without one.",
    "value": "The estimate, in the metric's unit.",
    "low": "Lower bound of the interval at `tables.confidence`; null if it has none.",
    "high": "Upper bound of the interval; null if it has none.",
    "n": "Number of prompts (or pairs) behind the value.",
    "fewest": "Number of them of the behaviour that has the fewest; below 4 there is no outcome.",
    "p_value": "Two-sided p-value against no difference; null for what is no difference.",
    "seed": "Seed of the resamples.",
    "seeds": "Number of seeds, or of draws of a random mask, that were averaged.",
    "family": "The mask whose size grows.",
    "mask": "Name of the mask.",
    "size_ratio": "Size of the mask as a multiple of the chosen q.",
    "layer": "Number of the block, from 0.",
    "module": "The matrix's name in its block, such as `mlp.up_proj`.",
    "p": "Fraction of weights preserved.",
    "q": "Fraction of weights selected.",
    "step": "Optimiser step.",
    "examples": "Number of examples trained on, up to and including this step.",
    "experiment": "Name of the experiment in `retraining`.",
}
"""Columns that mean the same wherever `_OWN` does not say otherwise."""

_NULL_MODELS = {
    "uniform": "drawn from all candidates",
    "matrix": "drawn within each matrix",
    "rows_columns": "drawn with both masks' row and column counts",
}

_OWN: dict[str, dict[str, str]] = {
    "measurements": {
        "variant": "The ablated mask, or `unmodified`; null where each harm type's own mask was "
        "zeroed on its own prompts.",
        "main": "True for the primary judge of a metric, and for metrics without a judge.",
        "metric": "Name of the metric ([definitions](../explanation/evaluation.md#rows)); "
        "`<metric>_change` is its difference from the unmodified model on the same prompts.",
        "p_adjusted": "`p_value`, corrected (Benjamini and Hochberg) over all rows of the same "
        "metric, judge and attack of a model.",
        "detectable": "Minimum detectable effect: the true difference that a study of this size "
        "detects with 80% power; null for what is no difference, or does not vary.",
    },
    "claims": {
        "model": "Name of the model or, of scope `family`, of the family of models.",
        "scope": "What the claim is about: a `model`, an `experiment` (a training in memory of "
        "the model), or a `family` of models.",
        "experiment": "Name of the experiment in `retraining`; null for the other scopes.",
        "claim": "Number of the [paper's claim](../explanation/claims.md).",
        "name": "What the number is about, in words.",
        "statistic": "The metric that is compared.",
        "variant": "The ablated mask; the last stage of a family; null where each harm type's own "
        "mask was zeroed.",
        "threshold": "The smallest effect that counts, which the interval is compared with.",
        "verdict": "`supported`, `not supported`, or `can't tell`.",
        "why": "The reason for `can't tell`, if it is another than an interval that includes the "
        "threshold; null otherwise.",
    },
    "judges": {
        "judge": "The judge, or `human`: each rater of a panel against the mean of the others.",
        "target": "The label that it is compared with, such as `graded-harm` or `refusal`.",
        "category": "The harm category, or `all`.",
        "metric": "`auroc`, `kappa`, `ece` and `brier` (calibration), the mean score of answers "
        "with and without the label, and of control texts.",
        "n": "Number of answers.",
    },
    "stages": {
        "family": "Name of the family in `training_stages`.",
        "stage": "Number of the stage, from 0.",
        "name": "Name of the stage's model.",
        "variant": "The mask whose size grows.",
        "metric": "`separability`: the NLL (nats per token) added to harmful responses at the size "
        "where that added to benign ones first reaches the limit, interpolated linearly over the "
        "logarithm of the size, and from the origin below the smallest size. `area`: the mean gap, "
        "harm − benign, over the logarithm of the size, in nats per token. `_change`: against "
        "stage 0.",
        "low": "Lower bound of the interval, over prompts, and over seeds if a stage has several "
        "(k seeds show (k − 1) / k of their variance, so it is too narrow for few).",
        "n": "Number of harmful and benign prompts.",
        "smaller_side": "Number of harmful or of benign prompts, whichever are fewer.",
        "beyond": "True if benign NLL does not reach the limit at any size in at least one seed; "
        "the value is then that of the largest size. Of a `_change`, true if it is of either side.",
    },
    "variants": {
        "variant": "The name in the other tables.",
        "kind": "`mask` (as the study chose it, or none), `size` (a mask of another size) or `arm` "
        "(a model trained in memory).",
        "mask": "The mask that is zeroed; null for the unmodified model.",
        "size": "Number of weights that it zeroes.",
        "lesioned": "When an arm's mask was zeroed: `before` training, `after` it, before it and "
        "kept at zero (`frozen`), or before it and trained alone (`only`).",
    },
    "curve": {
        "weights": "Number of weights zeroed.",
        "added": "NLL that the mask adds, in nats per token, mean over prompts.",
    },
    "halving": {
        "measure": "`likelihood`: where the mean added NLL of harmful responses reaches ln 2. "
        "`judged`: where half as many answers under the prefill are judged harmful.",
        "sizes": "Number of sizes measured.",
        "smallest": "Smallest size, in weights.",
        "largest": "Largest size, in weights.",
        "halving": "The half-effect size in weights, interpolated linearly over the logarithm of "
        "the size.",
        "low": "Lower bound of `halving`; null where resamples never reach it.",
        "high": "Upper bound of `halving`; null where resamples never reach it.",
        "beyond": "True if the largest size does not reach it; `halving` is then null.",
        "below": "True if the smallest size reaches it already; `halving` is then that size, an "
        "upper bound.",
        "benign": "Added NLL of benign responses at that size.",
        "benign_low": "Lower bound of `benign`, over benign prompts only.",
        "benign_high": "Upper bound of `benign`.",
        "area": "Area between the two curves, harm − benign, over the logarithm of the size, in "
        "nats per token times e-folds; divide by ln(largest / smallest) for the mean gap. Null for "
        "`judged`.",
        "area_low": "Lower bound of `area`.",
        "area_high": "Upper bound of `area`.",
        "n": "Number of harmful prompts.",
        "fewest": "Number of harmful prompts of the harm type that has the fewest; below 4 there "
        "is no outcome.",
        "benign_n": "Number of benign prompts.",
    },
    "equal_cost": {
        "limit": "NLL that the mask should add to benign responses of the validation split, in "
        "nats per token.",
        "cost": "NLL that it adds to them.",
        "reached": "False if no size that was tried comes within a tenth of the limit.",
        "weights": "Number of weights at that size.",
        "metric": "What the mask adds to harmful, matched, benign and refusing responses "
        "(`harm_added` and so on), its `specificity`, and what `shared` adds to harmful responses "
        "beyond that (`harm_added_less_than_shared`: paired by prompt, each side in proportion to "
        "its cost, so that a mask which costs a little more does not seem to do more).",
    },
    "overlap": {
        "a": "The first mask.",
        "b": "The second mask.",
        "role_a": "Role of the first mask's behaviour.",
        "role_b": "Role of the second mask's behaviour.",
        "size_a": "Number of weights of the first mask.",
        "size_b": "Number of weights of the second mask.",
        "shared": "Number of weights in both.",
        "jaccard": "`shared` divided by the number in either.",
        "overlap_coefficient": "`shared` divided by the number in the smaller mask.",
        **{
            f"{column}_{null}": f"{meaning} if weights were {drawn}."
            for null, drawn in _NULL_MODELS.items()
            for column, meaning in (
                ("expected", "Expected number in both"),
                ("enrichment", "`shared` divided by the number expected"),
                ("p", "Probability of at least as many in both"),
            )
        },
        "enrichment_low": "Lower bound of `enrichment_rows_columns` (95%, resampling matrices).",
        "enrichment_high": "Upper bound of `enrichment_rows_columns`.",
    },
    "sharing": {
        "size": "Mean number of weights of the harm types' masks.",
        "at_least": "Number of harm types whose masks contain a weight, at least.",
        "of": "Number of harm types.",
        "weights": "Number of such weights.",
        "expected": "Expected number if every mask were scattered at random within each matrix.",
    },
    "where": {
        "weights": "Number of the mask's weights in the matrix.",
        "candidates": "Number of weights of the matrix.",
    },
    "concentration": {
        "weights": "Number of the mask's weights in the matrix.",
        "rows": "Number of rows.",
        "columns": "Number of columns.",
        "rows_touched": "Number of rows with a weight of the mask.",
        "columns_touched": "Number of columns with a weight of the mask.",
        "rows_top_share": "Share of the mask's weights in the fullest 1% of the rows.",
        "columns_top_share": "Share of the mask's weights in the fullest 1% of the columns.",
        "rows_gini": "Gini coefficient of the weights by row: 0 is even, 1 is all in one.",
        "columns_gini": "Gini coefficient of the weights by column.",
    },
    "lines": {
        "axis": "`row` or `column`.",
        "index": "Number of the row or column in its matrix, from 0.",
        "weights": "Number of the mask's weights in it.",
        "share": "Share of all the mask's weights.",
    },
    "sweep": {
        "contrast": "Multiple of the matched requests' scores that is subtracted; 0 in a study "
        "without matched requests.",
        "weights": "Number of weights of the shared mask.",
        "harm_nll": "NLL of harmful responses with the mask zeroed.",
        "benign_nll": "NLL of benign responses with the mask zeroed.",
        "harm_nll_unmodified": "NLL of harmful responses of the unmodified model.",
        "benign_nll_unmodified": "NLL of benign responses of the unmodified model.",
        "matched_nll": "NLL of answers to matched requests with the mask zeroed; null without any.",
        "matched_nll_unmodified": "NLL of answers to matched requests of the unmodified model.",
        "harm_pairs": "Number of harmful pairs.",
        "benign_pairs": "Number of benign pairs.",
        "matched_pairs": "Number of pairs of matched requests.",
        "chosen": "True for the one that the study uses.",
        "pareto": "True if no other one takes more from harm and less from benign responses.",
    },
    "judge_controls": {
        "control": "What is judged ([the controls](../explanation/answers.md"
        "#is-it-harm-or-compliance)).",
        "statistic": "`mean` score, `auroc` against the answers to harmful requests, or "
        "`mean_change` from them.",
        "limit": "What `value` is compared with: a mean may not exceed it, the others may not fall "
        "below it; null without a limit.",
        "passed": "Whether the limit is kept; null without a limit.",
    },
    "pairs": {
        "behaviour": "Name of the behaviour.",
        "split": "`train`, `validation` or `test`.",
        "outcome": "`kept`, or why a pair is not used: `refused`, `empty` or `too long`.",
        "pairs": "Number of pairs.",
    },
    "examples": {
        "behaviour": "Name of the behaviour.",
        "prompt": "The prompt, without the attack's text.",
        "completion": "What the variant wrote, with the prefill if there is one.",
        "refused": "Whether it is a refusal, by matching phrases.",
        "harmful": "Whether the primary judge calls it harmful.",
        "harmfulness": "The primary judge's score, from 0 to 1.",
        "relevance": "Probability that the answer belongs to the prompt, by the learned judge.",
        "coherence": "How little the answer repeats itself, from 0 to 1.",
    },
    "training": {
        "base": "The model that it was trained from.",
        "method": "`sft` or `dpo`.",
        "seed": "Seed of the order of examples and of new weights.",
        "loss": "Mean loss of the step's examples before the step.",
        "learning_rate": "Learning rate of the step.",
    },
    "retraining": {
        "arm": "The training: what was ablated before or after it.",
        "step": "Optimiser step; 0 is before training, null for the summary of an arm.",
        "metric": "At a step: `nll` and the judges' metrics. Of an arm, where the gap is its NLL "
        "of harmful responses minus that of `unmodified` at the same step: `nll_added` (the gap "
        "before training), `recovered_share` (1 − last gap / first gap; null if the ablation "
        "added nothing), `half_steps` and `half_examples` (where the gap first falls to half, "
        "interpolated between measured steps; null if it never does), `misaligned_change` (rate of "
        "misaligned answers minus that of `unmodified`, at the last step), "
        "`misaligned_beyond_random` (that rate minus that of `random`, or of `random-after`) and "
        "`misaligned_change_by_training` (the rate of `unmodified` at the last step minus that "
        "before).",
    },
}


def column_meaning(table: str, column: str) -> str:
    """What a column of a table says.

    Raises:
        KeyError: nobody has said it.
    """
    return _OWN.get(table, {}).get(column) or _EVERYWHERE[column]


def tables_page() -> str:
    """The reference of the tables as Markdown."""
    return _HEAD + "\n".join(line for name in SCHEMAS for line in _table(name))


_HEAD = """# Every table, column by column

This page is generated from the tables' schemas by `lesion reference --write`.

A finished study has these tables in `<results>/<study>/tables/`, as parquet files. `lesion export`
writes them as CSV; `lesion.export.frames.pandas_tables` returns them as data frames.
[What is measured](../explanation/evaluation.md) defines the metrics, and
[statistics](../explanation/statistics.md) explains how intervals are computed. Beside them,
`tables/study.json` has the configuration, and `tables/models.json` describes the models.

"""


def _table(name: str) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"`{name}.parquet`. {PURPOSES[name]}\n"
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    for column, dtype in SCHEMAS[name].items():
        yield f"| `{column}` | {_TYPES[str(dtype())]} | {column_meaning(name, column)} |"
    yield ""


_TYPES = {"String": "text", "Int64": "integer", "Float64": "number", "Boolean": "Boolean"}
