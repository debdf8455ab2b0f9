"""What the figures mean, and what in them would change one's mind."""

from typing import NamedTuple


class Caption(NamedTuple):
    """Two paragraphs under a figure; words in braces are filled in."""

    means: str
    """What the number is, how to read it, where its threshold lies."""
    against: str
    """What would speak for the claim, and what against it."""

    def filled(self, **values: object) -> "Caption":
        """With the words in braces filled in."""
        return Caption(self.means.format(**values), self.against.format(**values))


CURVE = Caption(
    means=(
        "Each line is a kind of mask as it grows, from few weights to many: to the right is what "
        "benign responses lose, upwards what harmful ones do. `shared` grows with q; the controls "
        "have as many weights: `random` anywhere, `unsigned` by the size of the score and not its "
        "sign, `benign-signed` those that benign responses need most. The ringed point is the mask "
        "of this study. At the dashed line a token of a harmful response is half as likely as it "
        "was (ln 2 nats); on the thin diagonal harm and benign use lose alike. Axes are linear "
        "near zero and logarithmic beyond."
    ),
    against=(
        "Harm has weights of its own if `shared` rises steeply above the diagonal while the "
        "controls stay on it or near zero. A shared line along the diagonal would mean that "
        "language is lost and harm with it; a random line that rises too, that any damage does it. "
        "Where the line bends towards the diagonal, the mask has grown beyond what is harm’s own."
    ),
)

JUDGED_CURVE = Caption(
    means=(
        "The same masks by what the judge says: upwards the share of answers judged harmful when "
        "they are begun for the model (of `shared` with its intervals); to the right what benign "
        "responses lose. The dashed lines are the intact model’s share and half of it."
    ),
    against=(
        "If zeroing takes harm away before utility, `shared` crosses the lower line further left "
        "than the controls do. Where it crosses beside `benign-signed`, or beside a skill’s own "
        "mask, fewer harmful answers are bought with language at large, whatever the likelihoods "
        "above say; and a share that hardly moves says that the model still answers."
    ),
)

TRANSFER = Caption(
    means=(
        "Each row is a mask that was zeroed, each column a behaviour; the number is what that adds "
        "to the NLL of its held-out responses, in nats per token, against the intact model on the "
        "same prompts. Orange is harder to produce, purple easier. In brackets: not told from no "
        "effect at {confidence:.0%}, with p-values corrected (Benjamini and Hochberg) for all "
        "masks and behaviours together."
    ),
    against=(
        "A mechanism shared across harm types shows as a row that is orange over all harm types, "
        "not only its own, and faint over the benign ones. Orange on the diagonal alone would "
        "speak against sharing; a benign half as orange as the harmful one against a mechanism of "
        "harm, since such a mask breaks language; and an orange random row against both."
    ),
)

OVERLAP = Caption(
    means=(
        "{compared} The number is how many weights two masks have in common, divided by how many "
        "they would share by chance, given how many each takes from every row and every column of "
        "every matrix. That null is the strictest of three, because a row or column that matters "
        "at all matters for everything. 1 is chance. The tooltip has the counts; the interval, "
        "from resampling matrices; and p, how often chance alone would share as many."
    ),
    against=(
        "Read the multiple together with the count. Two masks that favour the same rows and "
        "columns expect a large overlap, so they can have the smaller multiple and still share "
        "many more weights. A small p says only that two masks are not independent, and hardly "
        "any two are. A mechanism of harm’s own needs pairs of harm types to stand out against "
        "pairs of harm and benign: by the count if it may be whole rows and columns, which the "
        "null takes away, and by the multiple if it is to be single weights."
    ),
)

WHERE = Caption(
    means=(
        "Weights of the mask in each matrix, per million weights that the matrix has, so that "
        "large and small matrices compare; the colour goes by the square root. The random control "
        "takes as many weights from every matrix as the shared mask."
    ),
    against=(
        "A few strong cells say that the mechanism sits in one place; an even spread, that it has "
        "none at this scale. A layer is not shown to matter by holding many of the weights: the "
        "evidence that they matter is what zeroing them does."
    ),
)

DISSOCIATION = Caption(
    means=(
        "Every ability is on a scale from 0 to 1, with its {confidence:.0%} interval; the unit is "
        "in the tooltip and under “The numbers”. A likelihood per token is exp(−NLL): how sure the "
        "model is of each word of a response that was written before. The mark at ½ is chance for "
        "detecting.{absent}"
    ),
    against=(
        "Writing harm is its own mechanism if the harm-pruned model falls in the first two rows "
        "and stays in the others, and the refusal-pruned one the other way round. If harm-pruning "
        "took detecting or explaining with it, knowledge of harm would be gone, not the writing of "
        "it. Nothing can be read from a row in which the intact model is already at the floor: at "
        "chance, or hardly refusing."
    ),
)

SWEEP = Caption(
    means=(
        "Every point is the shared mask made with one p (fraction of weights left out because "
        "benign use needs them) and one q (fraction that each harm type's mask takes), measured on "
        "validation pairs ({harm_pairs} harmful, {benign_pairs} benign) that no number above was "
        "taken from. Lines join the same p; the axes are logarithmic away from zero. The ringed "
        "point was chosen: most harm lost within the limit on benign loss (dashed, {limit})."
    ),
    against=(
        "Points far above the thin diagonal lose more on harmful than on benign responses. If "
        "every p kept close to it, no choice would tell the two apart, and the verdicts above "
        "would be about language at large."
    ),
)

TRAINING = Caption(
    means=(
        "The loss of each model that was trained here against the examples it had seen, averaged "
        "over stretches of {stretch} steps: nats per token of the wanted responses with `sft`, "
        "nats per pair of responses with `dpo`, where ln 2 is no preference."
    ),
    against=(
        "A line that still falls at its end says that the training was stopped early; one that "
        "rises or jumps, that its learning rate was too high. Nothing is said by it of answers "
        "that were not trained on: the numbers of the models say that."
    ),
)

STAGES = Caption(
    means=(
        "Separability is what the mask costs harmful responses (nats per token) at the size where "
        "benign ones have lost {limit} nats per token, or at the largest size if they never do. "
        "All stages are measured on the same prompts and responses, with masks of the same sizes. "
        "{confidence:.0%} intervals are over prompts, and over trainings where a stage has "
        "several seeds."
    ),
    against=(
        "Alignment gathers harm in weights of its own if `shared` moves to the right from stage "
        "to stage and its change has an interval above zero, while `random` stays. If both move, "
        "the later models are only more fragile. Stages that stay within each other’s intervals "
        "say that this training does not do it, or too little to be seen here."
    ),
)

RECOVERY = Caption(
    means=(
        "NLL of held-out harmful responses while the model is trained on train pairs of "
        "`retraining.{experiment}.behaviours` (of every harm type, if it names none), with "
        "{confidence:.0%} intervals over prompts. `intact` has no lesion; an arm named by a mask "
        "is lesioned first; with `-frozen` its zeros stay, so that only other weights can make up "
        "for it. These models were never written to disk."
    ),
    against=(
        "Harm was a mechanism that is quickly rebuilt, and not knowledge that is gone, if the "
        "lesioned arms fall to the intact one within few steps. Had they to learn it anew, they "
        "would run beside it to the end. Both arms falling alike from the first step on is only "
        "the training."
    ),
)

MISALIGNED = Caption(
    means=(
        "Share of answers that a judge calls misaligned, with {confidence:.0%} intervals: to "
        "broad questions, which the training did not touch, and to narrow ones of its own domain. "
        "An arm named by a mask is lesioned before the training, with `-after` when it is over."
    ),
    against=(
        "The weights of harm explain the misalignment if zeroing them first leaves broad answers "
        "as they were, while narrow ones follow the training as without a lesion. If narrow ones "
        "stay as well, the lesion only hinders learning; if `random` does as much, any lesion "
        "does. Where `intact` is no higher than before, nothing was there to be explained."
    ),
)
