"""What a linear map can read off frozen features."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

ROUNDS = 200  # of L-BFGS at most; it stops where the gradient is flat


def linear_probe(
    features: Float[Tensor, "N d"],
    labels: Int64[Tensor, " N"],
    test_features: Float[Tensor, "M d"],
    test_labels: Int64[Tensor, " M"],
    decay: float,
) -> float:
    """Accuracy in percent on the test part of multinomial logistic regression fitted to the rest.

    Features are standardised; `decay` · ‖W‖² / 2 is added to the mean loss.
    """
    mean, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    train, test = (features - mean) / spread, (test_features - mean) / spread
    model = nn.Linear(features.shape[1], int(labels.max()) + 1).to(features.device)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(train), labels) + decay / 2 * model.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return 100 * (model(test).argmax(-1) == test_labels).float().mean().item()
