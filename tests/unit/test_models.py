"""The models of the catalogue against counts of the real classes, and FLOPs against a formula."""

import csv
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from offsim.program.offloading.modules import KNOWN_BY_MODULE
from offsim.scenario import catalogue
from offsim.scenario.architectures import ARCHITECTURES, block_operations
from offsim.scenario.load import load_model
from offsim.scenario.model import BlockList, Model
from offsim.scenario.operations import Attention, Linear, Operation, parameter_count

COUNTS = Path(__file__).parent / "data" / "model_counts.csv"
MODELS = catalogue.names("models")
Counts = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def counts() -> Counts:
    """The counted rows of each model."""
    rows: Counts = defaultdict(list)
    with COUNTS.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            rows[row["model"]].append(row)
    return rows


def flops(operations: tuple[Operation, ...], image: int, text: int) -> int:
    """FLOPs of a forward over one sample: 2 rows in out for products, 4 queries keys width for attention."""
    rows = {"image": image, "text": text, "joint": image + text, "condition": 1}
    total = 0
    for operation in operations:
        if isinstance(operation, Linear):
            total += 2 * rows[operation.rows] * operation.inputs * operation.outputs
        elif isinstance(operation, Attention):
            total += 4 * rows[operation.queries] * rows[operation.keys] * operation.width
    return total


def model_flops(model: Model, image: int) -> int:
    return sum(blocks.count * flops(blocks.operations(), image, model.text_tokens) for blocks in model.blocks)


def small_block(architecture: str, **changes: object) -> BlockList:
    """A block of Wan2.1 1.3B's sizes."""
    sizes = {"parameters": 46_440_704, "hidden": 1536, "heads": 12, "head_dim": 128, "ffn": 8960}
    return msgspec.convert({"name": "blocks", "count": 1, "architecture": architecture, **sizes, **changes}, BlockList)


@pytest.mark.parametrize("name", MODELS)
def test_a_models_blocks_have_the_counted_parameters(name: str, counts: Counts) -> None:
    found = [(blocks.name, blocks.count, blocks.parameters) for blocks in load_model(name).blocks]
    assert found == [(r["list"], int(r["count"]), int(r["parameters_per_block"])) for r in counts[name]]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_blocks_have_the_counted_tensors(name: str, counts: Counts) -> None:
    found = [blocks.tensors for blocks in load_model(name).blocks]
    assert found == [int(row["tensors_per_block"]) for row in counts[name]]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_total_is_the_counted_one(name: str, counts: Counts) -> None:
    assert {str(load_model(name).parameters)} == {row["total"] for row in counts[name]}


@pytest.mark.parametrize("name", MODELS)
def test_a_block_in_bf16_has_the_published_gib(name: str, counts: Counts) -> None:
    found = [blocks.parameters * 2 / 2**30 for blocks in load_model(name).blocks]
    assert found == pytest.approx([float(row["bf16_GiB_per_block"]) for row in counts[name]], abs=5.1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_operations_add_up_to_the_blocks_parameters(name: str) -> None:
    for blocks in load_model(name).blocks:
        assert parameter_count(block_operations(blocks)) == blocks.parameters


@pytest.mark.parametrize("name", MODELS)
def test_a_models_file_says_its_name_and_source(name: str) -> None:
    model = load_model(name)
    assert model.name == name
    assert model.source and model.notes


def test_every_counted_model_is_in_the_catalogue(counts: Counts) -> None:
    assert set(counts) == set(MODELS)


def test_every_architecture_has_a_model() -> None:
    used = {blocks.architecture for name in MODELS for blocks in load_model(name).blocks}
    assert used == set(ARCHITECTURES)


def test_a_wan_forward_at_75600_tokens_takes_6_52e15_flops() -> None:
    s, d, f, text = 75_600, 5120, 13_824, 512
    formula = 40 * (2 * s * (6 * d**2 + 2 * d * f) + 4 * text * d**2 + 4 * s**2 * d + 4 * s * text * d)
    found = model_flops(load_model("wan2.2-t2v-a14b"), s)
    assert found == formula
    assert found == pytest.approx(6.52e15, rel=1e-3)


def test_flux_spends_two_flops_per_weight_and_row_besides_attention() -> None:
    """1024 x 1024: 4096 image and 512 text tokens; a double block has the same weights for both streams."""
    model, image, text = load_model("flux.1-dev"), 4096, 512
    d, s = 3072, image + text
    double = 2 * s * (4 * d**2 + 2 * d * 12_288) + 2 * 12 * d**2 + 4 * s**2 * d
    single = 2 * s * (3 * d**2 + d * 12_288 + 15_360 * d) + 2 * 3 * d**2 + 4 * s**2 * d
    assert model_flops(model, image) == 19 * double + 38 * single


def test_wan_image_to_video_adds_one_attention_and_its_keys_and_values() -> None:
    d, text = 5120, 512
    extra = model_flops(load_model("wan2.1-i2v-14b"), 1000) - model_flops(load_model("wan2.1-t2v-14b"), 1000)
    assert extra == 40 * (4 * text * d**2 + 4 * 1000 * text * d)


def test_text_and_image_of_joint_attention_meet_in_one_sequence() -> None:
    kernels = [op for op in load_model("qwen-image").blocks[0].operations() if isinstance(op, Attention)]
    assert [(kernel.queries, kernel.keys, kernel.width) for kernel in kernels] == [("joint", "joint", 3072)]


def test_the_context_refiner_of_z_image_sees_only_text() -> None:
    operations = load_model("z-image-turbo").blocks[1].operations()
    assert {op.keys if isinstance(op, Attention) else op.rows for op in operations} == {"text"}


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"architecture='warn': allowed are cogvideox, cosmos,"):
        small_block("warn")


def test_a_shape_that_does_not_fit_its_count_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"parameters=46,440,704: this shape has 46,443,777 per block"):
        small_block("wan", ffn=8961)


def test_a_missing_size_of_one_architecture_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"extra\.time_embedding: missing, architecture 'cogvideox'"):
        small_block("cogvideox")


def test_the_model_that_messages_name_is_known_module_by_module():
    assert load_model(KNOWN_BY_MODULE).knows_modules
