"""Prompts reach the class they name, in the order that the models were trained with."""

import pytest
import torch

from experiments.training.class_latte import NUM_CLASSES, SumOfAttributes, class_labels
from qvd.data.shapes import ATTRIBUTES, Shapes
from qvd.models.class_names import class_label, class_names
from qvd.options.model import Classes


def test_captions_of_shapes_reach_the_class_of_their_attributes():
    names, dataset = class_names(Classes.shapes), Shapes()
    assert len(set(names)) == NUM_CLASSES == 280
    for index in range(200):
        attributes = dataset.attributes(index)
        labels = torch.tensor([[attributes.labels[name] for name in ATTRIBUTES]])
        assert class_label(attributes.caption, names) == class_labels(labels).item()


def test_ucf101_is_in_the_order_of_its_folders():
    names = class_names(Classes.ucf101)
    assert len(names) == 101 and names[0] == "a person is putting on eye makeup"
    assert [class_label(name, names) for name in names] == list(range(101))


def test_a_prompt_without_a_class_is_refused():
    with pytest.raises(ValueError, match="'a dog' names none of the model's 280 classes"):
        class_label("a dog", class_names(Classes.shapes))


def test_a_table_of_sums_puts_each_class_in_its_row():
    parts = torch.randn(5 + 7 + 8 + 1, 4)
    table = SumOfAttributes()(parts)
    labels = torch.tensor([[3, 6, 2]])
    torch.testing.assert_close(table[class_labels(labels)][0], parts[3] + parts[5 + 6] + parts[5 + 7 + 2])
    assert table.shape == (281, 4) and torch.equal(table[-1], parts[-1])
