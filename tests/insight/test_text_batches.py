"""Which positions, examples and labels a batch has, where rows of inputs are not examples."""

import pytest
from transformers import AutoTokenizer

import spt
from spt.insight.text_batches import label_index, label_names, texts_of_split
from spt.paths import local_path
from spt.tasks.superglue import RecordTask
from spt.tasks.text_classification import RegressionTask
from spt.tasks.token_classification import TokenTask
from tests.conftest import tiny_encoder

COMMON = {"name": "own", "files": {"train": [], "validation": []}}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(local_path("pkg://spt/demo/encoder"))


def test_the_entities_of_a_query_stay_together(tokenizer):
    """A row of inputs is an entity, an example is a query: its positions count together, each row has its label."""
    task = RecordTask(metrics=["f1"], **COMMON)
    entities = (["the child"], ["a b c d e f", "a", "b"], ["the old apple broke", "a child"])
    examples = [
        {"passage": "the child", "query": "@placeholder broke", "entities": own, "answers": own[-1:]}
        for own in entities
    ]
    split = task.encode(examples, tokenizer, None)
    model = spt.TaskModel(tiny_encoder(), "sentence", num_labels=2)
    texts = texts_of_split(model, task, split, tokenizer, size=2)
    sizes = [(batch.first_example, batch.examples, len(batch.mask)) for batch in texts.batches]
    assert sizes == [(0, 1, 3), (1, 1, 2), (2, 1, 1)]
    assert texts.labels.tolist() == [0, 0, 1, 0, 1, 1] and texts.examples == 3
    assert texts.positions == sum(split.inputs["length"])
    lengths = split.inputs["length"]
    assert texts.batches[0].units.tolist() == [0] * lengths[1] + [1] * lengths[2] + [2] * lengths[3]
    assert {len(batch.owners.unique()) for batch in texts.batches} == {1}
    together = texts_of_split(model, task, split, tokenizer, size=100).batches
    assert [batch.owners.bincount().tolist() for batch in together] == [
        [sum(lengths[1:4]), sum(lengths[4:]), lengths[0]]
    ]


def test_the_labels_of_tags_are_entity_types():
    task = TokenTask(metrics=["f1"], labels=["PER", "LOC-B"], **COMMON)
    assert label_names(task) == ["O", "PER", "LOC-B"] and label_index(task) == [0, 1, 1, 2, 2]
    regression = RegressionTask(metrics=["pearson"], templates=[["{a}"]], **COMMON)
    assert label_names(regression) is label_index(regression) is None
