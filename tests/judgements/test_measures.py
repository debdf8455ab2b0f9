"""The measures of a judge are scikit-learn's, which is too slow for resampling."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score

from lesion.judgements.measures import auroc, brier, kappa


@pytest.mark.parametrize("digits", [1, 3])  # with many ties, and with few
@pytest.mark.parametrize("size", [7, 40, 400])
def test_they_equal_scikit_learns(size: int, digits: int) -> None:
    rng = np.random.default_rng(size)
    labels = (np.arange(size) % 3 == 0).astype(float)
    scores = np.round(np.clip(rng.normal(0.3 + 0.3 * labels, 0.25), 0, 1), digits)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    wanted = cohen_kappa_score(labels > 0, scores >= 0.3)
    assert kappa(labels, scores, 0.3) == pytest.approx(wanted, abs=1e-12)
