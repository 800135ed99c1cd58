"""The measures as their definitions read, in plain loops over query positions. A position is (example, label, s, g, w):
for one layer and head the prefix scores, gates and weights of the prefix.
"""

import math
from collections import Counter


def entropy(shares):
    return -sum(share * math.log(share) for share in shares if share > 0)


def variance(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def shares(weights):
    return [weight / sum(weights) for weight in weights]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def measures(positions):
    slots = range(len(positions[0][2]))
    gates = [[g[p] for *_, g, _ in positions] for p in slots]
    examples = dict.fromkeys(example for example, *_ in positions)
    by_example = [[[g[p] for example, *_, g, _ in positions if example == one] for one in examples] for p in slots]
    slot_share = [mean(shares(w)[p] for *_, w in positions) for p in slots]
    at_once = mean(entropy(shares(w)) for *_, w in positions)
    within = mean(mean(variance(g) for g in examples for _ in g) for examples in by_example)
    return {
        "gate_mean": [mean(g) for g in gates],
        "gate_open": [mean(value > 0.9 for value in g) for g in gates],
        "gate_closed": [mean(value < 0.1 for value in g) for g in gates],
        "gate_within": within,
        "gate_between": mean(variance([mean(g) for g in examples for _ in g]) for examples in by_example),
        "total variance": mean(variance(g) for g in gates),
        "prefix_mass": mean(sum(w) for *_, w in positions),
        "slot_share": slot_share,
        "slot_information": entropy(slot_share) - at_once,
        "slots_used": math.exp(entropy(slot_share)),
        "slots_used_at_once": math.exp(at_once),
    }


def information(labels, weights):
    """The mutual information of label and slot over positions; those with the label None do not count."""
    joint = Counter()
    for label, w in zip(labels, weights, strict=True):
        for p, share in enumerate(shares(w)):
            joint[label, p] += share if label is not None else 0
    total = sum(joint.values())
    of_label, of_slot = Counter(), Counter()
    for (label, p), weight in joint.items():
        of_label[label] += weight / total
        of_slot[p] += weight / total
    return sum(
        weight / total * math.log(weight / total / of_label[label] / of_slot[p])
        for (label, p), weight in joint.items()
        if weight > 0
    )
