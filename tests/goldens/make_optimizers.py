"""Weights after every step of PyTorch's optimisers in float64: writes optimizers.json beside this script.

Used by tests/optimizer_test.cpp. Run it again only to add a case: python3 make_optimizers.py
"""

import json
import pathlib

import torch

from vnet_reference import noise

COUNT, STEPS = 6, 7
LEARNING_RATES = [0.01, 0.01, 0.02, 0.005, 0.005, 0.001, 0.1]
CASES = [
    dict(name="sgd", momentum=0.9, weight_decay=1e-4),
    dict(name="sgd", momentum=0.99, weight_decay=0.1),
    dict(name="sgd", momentum=0.0, weight_decay=0.0),
    dict(name="adam", beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0),
    dict(name="adam", beta1=0.5, beta2=0.99, epsilon=1e-4, weight_decay=0.05),
    dict(name="adamw", beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01),
    dict(name="adamw", beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.5),
]


def make_optimizer(case, weights):
    if case["name"] == "sgd":
        return torch.optim.SGD([weights], lr=1.0, momentum=case["momentum"], weight_decay=case["weight_decay"])
    kind = torch.optim.Adam if case["name"] == "adam" else torch.optim.AdamW
    return kind([weights], lr=1.0, betas=(case["beta1"], case["beta2"]), eps=case["epsilon"],
                weight_decay=case["weight_decay"])


def main():
    initial = torch.from_numpy(noise(COUNT, 0))
    gradients = [torch.from_numpy(noise(COUNT, step + 1)) for step in range(STEPS)]
    gradients[2][0] = 0.0
    results = []
    for case in CASES:
        weights = initial.clone().requires_grad_()
        optimizer = make_optimizer(case, weights)
        after = []
        for gradient, learning_rate in zip(gradients, LEARNING_RATES):
            optimizer.param_groups[0]["lr"] = learning_rate
            weights.grad = gradient.clone()
            optimizer.step()
            after.append(weights.detach().tolist())
        results.append({**case, "weights": after})
    golden = {
        "initial": initial.tolist(),
        "gradients": [g.tolist() for g in gradients],
        "learning_rates": LEARNING_RATES,
        "cases": results,
    }
    path = pathlib.Path(__file__).with_name("optimizers.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
