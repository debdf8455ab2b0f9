"""The captions of the figures: how to read each, and what would speak for or against its claim.

The first paragraph says what the numbers are, how to read them, and where their threshold lies; the
second what would speak for the claim, and what against it.
"""

from typing import NamedTuple


class Caption(NamedTuple):
    """Two paragraphs under a figure."""

    means: str
    against: str


def filled(text: str, **values: object) -> Caption:
    """The caption, with its placeholders in braces filled in."""
    means, against = text.split("\n\n")
    return Caption(*(" ".join(part.split()).format(**values) for part in (means, against)))


CURVE = """
Each line follows one kind of mask from few weights to many. The horizontal axis is the NLL added to
benign responses, the vertical axis the NLL added to harmful ones. `{mask}` grows with q. The
controls have as many weights: `random` draws them anywhere, `unsigned` selects by the size of the
score without its sign, and `benign-signed` selects the weights that benign responses need most. The
ringed point is the mask of this study. At the dashed line a token of a harmful response is half as
likely as before (ln 2 nats). On the thin diagonal a mask adds the same NLL to both. The axes are
linear near zero and logarithmic beyond.

Harm depends on weights of its own if `{mask}` rises steeply above the diagonal while the controls
stay on it or near zero. If `{mask}` followed the diagonal, harm would only be lost together with
language. If `random` rose too, any damage would have this effect. Where the line bends towards the
diagonal, the mask has grown beyond the weights that are specific to harm.
"""

JUDGED_CURVE = """
This chart shows the same masks, measured by the judge. The vertical axis is the share of answers
{counted}, under the prefill (with intervals for `{mask}`), the horizontal axis the NLL added to
benign responses. The dashed lines are the unmodified model’s share and half of it.

If zeroing removes harm before utility, `{mask}` crosses the lower line further left than the
controls do. If it crosses next to `benign-signed`, or next to a skill’s own mask, such answers
become rarer only because language in general degrades, even if the likelihoods above suggest
otherwise. If the share hardly changes, the model still writes such answers.
"""

EQUAL_COST = """
Each row is a mask that was grown until it added {limit} nats per token to benign responses of the
validation split, or came as near as it could. The points are what it adds to responses of the test
split, with {confidence:.0%} intervals. Benign responses are there as a check: they should lie near
the same value in every row.

If `shared` holds weights of harm, it adds more to harmful responses than the masks of other
answers do, and clearly less to the matched harmless ones; a claim about harm needs this, but it is
not enough. If a mask of matched answers, of refusals or of facts adds as much to harmful responses,
the effect is one of the topic, of the form of answers or of damage in general.
"""

OUTCOMES = """
Every answer that could be judged has one outcome, and the parts of a bar add up to one; the table
below has their {confidence:.0%} intervals. An outcome goes by what the model wrote after the
prefill. The first that applies counts: empty, if nothing was written; refused, by the learned judge
of refusal; incoherent, if the text mostly repeats itself, probably does not belong to the prompt,
or is unlikely to the unmodified model ({limit}); {harmful}, by the study’s judge of harm. No rule
looks at the length of an answer.{named}

If zeroing takes harm out, answers become refused or harmless, while those to everyday prompts stay
as they were. Taking out the topic of the requests looks the same, so the specificity has to be seen
too. If answers become incoherent or empty instead, the model is only damaged, and a lower score of
harm shows nothing else. If the shares stay as they were, nothing was taken out.
"""

TRANSFER = """
Each row is a mask that was zeroed and each column a behaviour. The number is the NLL, in nats per
token, that zeroing the mask adds to held-out responses of the behaviour, compared with the
unmodified model on the same prompts. Orange means that zeroing makes the responses less likely, and
purple that it makes them more likely. Numbers in brackets are not significantly different from zero
at {confidence:.0%}; their p-values are corrected (Benjamini and Hochberg) over all masks and
behaviours together.

A mechanism that harm types share shows as a row that is orange over all harm types, not only its
own, and faint over the benign ones. Orange on the diagonal alone would speak against sharing.
Benign columns as orange as the harmful ones would speak against a mechanism of harm, since such a
mask damages language. An orange random row would speak against both.
"""

OVERLAP = """
{compared} The number is the count of weights that two masks share, divided by the count expected by
chance given how many weights each mask takes from every row and every column of every matrix. This
null model is the strictest of three, because a row or column that matters at all matters for
everything. A ratio of 1 is chance. The tooltip shows the counts, an interval from resampling
matrices, and p, the probability that chance alone gives as many shared weights.

Read the ratio together with the count. Two masks that favour the same rows and columns have a large
expected overlap, so they can have the smaller ratio and still share many more weights. A small p
says only that two masks are not independent, and hardly any two are. A mechanism specific to harm
requires pairs of harm types to exceed pairs of harm and benign behaviours: by the count if the
mechanism may consist of whole rows and columns, which the null model removes, and by the ratio if
it should consist of single weights.
"""

WHERE = """
The colour shows how many weights of the mask lie in each matrix, per million weights of that
matrix, so that large and small matrices can be compared. It is on a square-root scale. The random
control takes as many weights from every matrix as the shared mask.

A few strong cells show that the mechanism is localised; an even spread shows that it is not, at
this scale. A layer is not shown to matter by containing many of the weights: the evidence that they
matter is the effect of zeroing them.
"""

DISSOCIATION = """
Every ability is on a scale from 0 to 1, with its {confidence:.0%} interval. The unit is in the
tooltip and under “The numbers”. A likelihood per token is exp(−NLL): the mean probability
(geometric) that the model gives to each token of a response written beforehand. The mark at ½ is
chance for detection.{absent}

Writing harm is a mechanism of its own if the harm-ablated model falls in the first two rows and
keeps the others, and the refusal-ablated model does the opposite. If the harm-ablated model could
no longer detect or explain harm either, the knowledge of harm would be lost and not only the
writing of it. A row in which the unmodified model is already at the floor (at chance, or hardly
refusing) shows nothing.
"""

SWEEP = """
Every point is the shared mask for one p (the fraction of weights that are excluded because benign
use needs them) and one q (the fraction that each harm type's mask selects). It is measured on
validation pairs ({harm_pairs} harmful, {benign_pairs} benign) that were used for no number above.
Lines join points of the same p; the axes are logarithmic away from zero. The ringed point was
chosen: it adds the most NLL to harmful responses (less what it adds to matched ones, if there are
any) within the limit on benign loss (dashed, {limit}).

Points far above the thin diagonal cost harmful responses more than benign ones. If every p stayed
close to the diagonal, no choice would separate the two, and the outcomes above would be about
language in general.
"""

TRAINING = """
Each line shows the loss of a model that was trained here against the number of examples seen,
averaged over {stretch} steps at a time. The unit is nats per token of the wanted responses with
`sft`, and nats per pair of responses with `dpo`, where ln 2 means no preference.

A line that still falls at its end shows that the training was stopped early; one that rises or
jumps shows that its learning rate was too high. The loss says nothing about answers that the model
was not trained on; the models’ measurements do.
"""

STAGES = """
Separability is the NLL (nats per token) that the mask adds to harmful responses at the size where
it adds {limit} nats per token to benign ones, or at the largest size if it never does. All stages
are measured on the same prompts and responses, with masks of the same sizes. {confidence:.0%}
intervals cover prompts, and also training runs where a stage has several seeds.

Alignment concentrates harm in weights of its own if `{mask}` moves to the right from stage to stage
and the interval of its change lies above zero, while `random` stays. If both move, the later models
are only more fragile. If the stages stay within each other’s intervals, this training does not
concentrate harm, or does so too little to be detected here.
"""

RECOVERY = """
Each line shows the NLL of held-out harmful responses while the model is trained on train pairs of
`retraining.{experiment}.behaviours` (of every harm type if none is named), with {confidence:.0%}
intervals over prompts. In the arm `unmodified` no weight is zeroed. In an arm named after a mask,
the mask is zeroed before training. With `-frozen` its weights stay zero, so that only other weights
can compensate. With `-only` no other weight is trained, as by an attacker who knows the mask. These
models were never written to disk.

If the ablated arms reach the unmodified arm within few steps, the ablation removed a mechanism that
is quickly rebuilt. If the knowledge were gone, the ablated arms would stay parallel to the
unmodified arm. A parallel drop in both from the first step on is just the effect of training.
"""

MISALIGNED = """
Each point shows the share of answers that a judge calls misaligned, with its {confidence:.0%}
interval. Broad questions are about what the training did not touch, and narrow ones about its own
domain. In an arm named after a mask, the mask is zeroed before training; with `-after` it is zeroed
after training.

The weights of harm explain the misalignment if zeroing them first leaves broad answers as they
were, while narrow answers change with training as they do without an ablation. If narrow answers
stay as they were too, the ablation only hinders learning. If `random` has the same effect, so has
any ablation. If `unmodified` is no higher than before training, there is nothing to explain.
"""

COMPARED_CURVES = """
Each line follows a mask of A or of B from few weights to many: the shared mask, and as many weights
chosen at random. The horizontal axis is the NLL added to benign responses, the vertical axis the
NLL added to harmful ones. At the dashed line a token of a harmful response is half as likely as
before (ln 2 nats). On the thin diagonal a mask adds the same NLL to both.

The weights are more specific to harm in the model whose line lies higher and further to the left.
Lines within each other’s intervals (hover to see them) do not differ detectably. Each side is
measured on its own model’s responses, so the shapes can be compared, but not how harmful the
responses are.
"""
