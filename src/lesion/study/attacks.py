"""The config sections of attacks on harmful prompts."""

from lesion.study.types import Fraction, Scope, Section, Share, SourceText


class Template(Section):
    """An attack that rewrites prompts."""

    source: SourceText
    """The template: a name from `sources`, or an address. A PyRIT jailbreak (YAML) or a text, in
    which only `{{ prompt }}` is replaced; or a table (JSONL, CSV, parquet) with the columns
    `prompt` and `attacked` and a row for each harmful test prompt."""
    prefill: str = ""
    """Beginning of the model's answer; empty, if not given."""


class RefusalAblation(Section):
    """The weights of refusal, which the attacks `refusal-ablation…` set to zero in addition to a
    variant's mask. They are selected by the rule `difference` and never written as a checkpoint.
    """

    p: Share = 0.01
    """Fraction of weights with the highest preservation importance, which are left as they are."""
    q: Fraction = 0.01
    """Fraction of weights that are selected by their scores on refusals."""
    scope: Scope = "matrix"
    """The set of weights that p and q refer to, as in `masks.scope`."""
    signed: bool = False
    """Select the most negative signed scores, as in the masks of behaviours. Otherwise the weights
    are selected that have the highest importance for refusals (`scores.preservation`)."""
