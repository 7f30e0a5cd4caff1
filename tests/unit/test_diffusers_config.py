"""Transformer configs of diffusers as models: exact totals, and one clear error when they don't fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from offsim.scenario.diffusers import from_diffusers_config
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_model
from offsim.scenario.wording import shown

Config = dict[str, Any]

WAN: Config = {
    "_class_name": "WanTransformer3DModel",
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "num_layers": 40,
    "ffn_dim": 13824,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "patch_size": [1, 2, 2],
    "added_kv_proj_dim": None,
    "image_dim": None,
}
WAN_I2V = {**WAN, "in_channels": 36, "added_kv_proj_dim": 5120, "image_dim": 1280}
WAN_5B = {
    **WAN,
    "num_attention_heads": 24,
    "num_layers": 30,
    "ffn_dim": 14336,
    "in_channels": 48,
    "out_channels": 48,
}
FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 19,
    "num_single_layers": 38,
    "in_channels": 64,
    "patch_size": 1,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
FLUX2 = {
    "_class_name": "Flux2Transformer2DModel",
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "in_channels": 128,
    "patch_size": 1,
    "joint_attention_dim": 7680,
    "mlp_ratio": 3.0,
    "guidance_embeds": False,
}
HUNYUAN = {
    "_class_name": "HunyuanVideoTransformer3DModel",
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 20,
    "num_single_layers": 40,
    "num_refiner_layers": 2,
    "mlp_ratio": 4.0,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "patch_size_t": 1,
    "text_embed_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
HUNYUAN_15 = {
    "_class_name": "HunyuanVideo15Transformer3DModel",
    "num_attention_heads": 16,
    "attention_head_dim": 128,
    "num_layers": 54,
    "num_refiner_layers": 2,
    "mlp_ratio": 4.0,
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": 1,
    "patch_size_t": 1,
    "text_embed_dim": 3584,
    "text_embed_2_dim": 1472,
    "image_embed_dim": 1152,
}
QWEN = {
    "_class_name": "QwenImageTransformer2DModel",
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 60,
    "in_channels": 64,
    "out_channels": 16,
    "patch_size": 2,
    "joint_attention_dim": 3584,
}
COGVIDEOX_2B = {
    "_class_name": "CogVideoXTransformer3DModel",
    "num_attention_heads": 30,
    "attention_head_dim": 64,
    "num_layers": 30,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "patch_size_t": None,
    "text_embed_dim": 4096,
    "time_embed_dim": 512,
    "max_text_seq_length": 226,
}
COGVIDEOX_5B = {**COGVIDEOX_2B, "num_attention_heads": 48, "num_layers": 42}

PUBLISHED = [
    ("wan2.2-t2v-a14b", WAN),
    ("wan2.1-i2v-14b", WAN_I2V),
    ("wan2.2-i2v-a14b", {**WAN, "in_channels": 36}),
    ("wan2.2-ti2v-5b", WAN_5B),
    ("flux.1-dev", FLUX),
    ("flux.2-klein-4b", FLUX2),
    ("hunyuanvideo", HUNYUAN),
    ("hunyuanvideo-1.5", HUNYUAN_15),
    ("qwen-image", QWEN),
    ("cogvideox-2b", COGVIDEOX_2B),
    ("cogvideox-5b", COGVIDEOX_5B),
    ("cogvideox1.5-5b", {**COGVIDEOX_5B, "patch_size_t": 2}),
]


def write(folder: Path, config: Any) -> Path:
    """config.json in a checkpoint folder, as a repository has it."""
    path = folder / "My_Checkpoint" / "transformer" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def error(folder: Path, config: Any) -> str:
    with pytest.raises(ScenarioError) as raised:
        from_diffusers_config(write(folder, config))
    return str(raised.value)


@pytest.mark.parametrize(("name", "config"), PUBLISHED, ids=[name for name, _ in PUBLISHED])
def test_a_published_config_gives_the_counted_weights(name: str, config: Config, tmp_path: Path) -> None:
    model, known = from_diffusers_config(write(tmp_path, config)), load_model(name)
    assert model.blocks == known.blocks
    assert model.other_parameters == known.other_parameters


@pytest.mark.parametrize(("name", "config"), PUBLISHED, ids=[name for name, _ in PUBLISHED])
def test_a_published_config_gives_the_same_tokens(name: str, config: Config, tmp_path: Path) -> None:
    model, known = from_diffusers_config(write(tmp_path, config)), load_model(name)
    assert (model.patch, model.vae_stride) == (known.patch, known.vae_stride)
    assert (model.text_tokens, model.guidance) == (known.text_tokens, known.guidance)


def test_flux_without_guidance_embedding_has_one_embedding_less(tmp_path: Path) -> None:
    model = from_diffusers_config(write(tmp_path, {**FLUX, "guidance_embeds": False}))
    assert load_model("flux.1-dev").parameters - model.parameters == 256 * 3072 + 3072 + 3072**2 + 3072
    assert model.steps == 4


def test_the_offset_embedding_of_cogvideox_image_to_video_is_counted(tmp_path: Path) -> None:
    config = {**COGVIDEOX_5B, "patch_size_t": 2, "in_channels": 32, "ofs_embed_dim": 512}
    assert from_diffusers_config(write(tmp_path, config)).parameters == 5_571_594_880


def test_the_checkpoints_folder_names_the_model(tmp_path: Path) -> None:
    assert from_diffusers_config(write(tmp_path, WAN)).name == "my-checkpoint"


def test_the_configs_own_name_comes_first(tmp_path: Path) -> None:
    config = {**WAN, "_name_or_path": "Wan-AI/Wan2.1-T2V-14B-Diffusers"}
    assert from_diffusers_config(write(tmp_path, config)).name == "wan2.1-t2v-14b-diffusers"


def test_text_encoder_and_vae_stay_unknown(tmp_path: Path) -> None:
    model = from_diffusers_config(write(tmp_path, WAN))
    assert model.text_encoder is None
    assert model.vae is None


def test_an_unknown_class_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    message = error(tmp_path, {**WAN, "_class_name": "UNet2DModel"})
    assert "config.json: _class_name='UNet2DModel': allowed are CogVideoXTransformer3DModel, " in message


def test_a_config_without_a_class_is_refused(tmp_path: Path) -> None:
    assert "config.json: _class_name: missing; allowed are " in error(tmp_path, {"num_layers": 40})


def test_a_class_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "_class_name=['a']: allowed are " in error(tmp_path, {"_class_name": ["a"]})


def test_a_missing_key_is_named_with_what_it_must_be(tmp_path: Path) -> None:
    config = {key: value for key, value in WAN.items() if key != "ffn_dim"}
    message = error(tmp_path, config)
    assert message.endswith(": ffn_dim: missing; WanTransformer3DModel needs an integer from 1 to 1000000")


@pytest.mark.parametrize("value", [0, -1, 1.5, "40", True])
def test_a_size_that_is_no_positive_integer_is_refused(value: object, tmp_path: Path) -> None:
    message = error(tmp_path, {**WAN, "num_layers": value})
    assert f"config.json: num_layers={shown(value)}: expected an integer from 1 to 1000" in message


@pytest.mark.parametrize("value", [2, [1, 2], [1, 2, 0], None])
def test_a_patch_that_is_no_triple_is_refused(value: object, tmp_path: Path) -> None:
    message = error(tmp_path, {**WAN, "patch_size": value})
    assert f"patch_size={shown(value)}: expected an array of 3, each an integer from 1 to 256" in message


def test_image_keys_of_another_width_are_refused(tmp_path: Path) -> None:
    message = error(tmp_path, {**WAN_I2V, "added_kv_proj_dim": 1024})
    assert message.endswith("added_kv_proj_dim=1024: expected null or 5120, the hidden size")


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"config\.json: not JSON: "):
        from_diffusers_config(path)


def test_a_json_list_is_refused(tmp_path: Path) -> None:
    assert error(tmp_path, [1]).endswith("expected a JSON object, the config.json of a diffusers transformer")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"config\.json: no such file"):
        from_diffusers_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("num_attention_heads", "1000000000", "=1000000000: expected an integer from 1 to 1000000"),
        ("num_attention_heads", "-" + "1" * 5000, "=-inf: expected an integer"),
        ("num_layers", "1001", "=1001: expected an integer from 1 to 1000"),
        ("ffn_dim", "1" * 400, "=inf: expected an integer"),
        ("ffn_dim", "NaN", "=nan: expected an integer"),
        ("patch_size", "[true, 2, 2]", "=[true, 2, 2]: expected an array of 3"),
        ("patch_size", "[1, 2, 1000]", "=[1, 2, 1000]: expected an array of 3"),
        ("text_dim", "[4096]", "=[4096]: expected an integer"),
        ("attention_head_dim", "100000", "=4000000: expected an integer from 1 to 1000000"),
        ("_class_name", f'"{"x" * 100_000}"', "=" + repr("x" * 57 + "...") + ": allowed are CogVideoX"),
    ],
)
def test_a_value_that_no_model_may_have_is_refused_by_its_key(key: str, text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, {**WAN, key: "HERE"})
    path.write_text(path.read_text().replace('"HERE"', text))
    with pytest.raises(ScenarioError) as caught:
        from_diffusers_config(path)
    assert f"{key}{words}" in str(caught.value)
    assert len(str(caught.value)) < 480 and str(caught.value).startswith(f"{path}: ")


def test_an_mlp_ratio_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    assert "mlp_ratio=inf: expected a number" in error(tmp_path, {**HUNYUAN, "mlp_ratio": float("inf")})


def test_a_name_that_is_too_long_or_strange_still_makes_a_model(tmp_path: Path) -> None:
    assert from_diffusers_config(write(tmp_path / "1", {**WAN, "_name_or_path": "x" * 1000})).name == "x" * 100
    assert from_diffusers_config(write(tmp_path / "2", {**WAN, "_name_or_path": ["x"]})).name == "my-checkpoint"
    (tmp_path / "2" / "My_Checkpoint" / "transformer" / "config.json").rename(tmp_path / "a\x1b[31m.json")
    assert from_diffusers_config(tmp_path / "a\x1b[31m.json").title == "WanTransformer3DModel of a\\x1b[31m.json"
