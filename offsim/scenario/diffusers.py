"""A published diffusers transformer config.json as a Model.

Blocks come from the same architectures as the catalogue; what lies outside of them (embeddings, final layers)
is counted per class. A config says nothing of its pipeline, so text encoder and VAE stay None, a second
expert stays unknown, and steps and guidance are the pipeline class's defaults. Left out: buffers, such as the
learned positions of CogVideoX image-to-video.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .allowed import allowed_words, check
from .architectures import block_operations
from .documents import read_json
from .faults import Place
from .load import convert
from .model import BlockList, Few, Model, Size, Stride
from .operations import parameter_count
from .units import LONGEST_NAME
from .wording import one_line

Triple = tuple[Stride, Stride, Stride]
Ratio = Annotated[float, Meta(gt=0, le=1000)]

TENSORS = {
    "cogvideox": 24,
    "flux-double": 32,
    "flux-single": 14,
    "flux2-double": 16,
    "flux2-single": 4,
    "wan": 27,
    "wan-i2v": 32,
}
"""Parameter tensors of one block: diffusers keeps q, k and v apart (not FLUX.2's single blocks)."""


@dataclass(frozen=True)
class Config:
    """The fields of one config.json; a missing or wrong one raises ScenarioError. What a model may have, it may."""

    place: Place
    kind: str
    fields: dict[str, Any]

    def integer(self, key: str, allowed: Any = Size) -> int:
        """The positive integer of a field that must be there: a size, unless `allowed` says otherwise."""
        return int(self._required(key, allowed))

    def optional(self, key: str, allowed: Any = Size) -> int | None:
        """The positive integer of a field, or None where the config leaves it out or says null."""
        return None if self.fields.get(key) is None else self.integer(key, allowed)

    def number(self, key: str, default: float) -> float:
        """The positive number of a field, or `default`."""
        return float(self._required(key, Ratio)) if key in self.fields else default

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether a field is true, or `default`."""
        return bool(self._required(key, bool)) if key in self.fields else default

    def triple(self, key: str) -> Triple:
        """The three positive integers of a field."""
        frames, rows, columns = self._required(key, Triple)
        return frames, rows, columns

    def _required(self, key: str, allowed: Any) -> Any:
        place = self.place.child(key)
        if key not in self.fields:
            raise place.fault(f"missing; {self.kind} needs {allowed_words(allowed)}")
        check(self.fields[key], allowed, place)
        return self.fields[key]


@dataclass(frozen=True)
class Shape:
    """A block's sizes before its parameters are known."""

    architecture: str
    hidden: int
    heads: int
    head_dim: int
    ffn: int
    text_hidden: int | None = None
    text_ffn: int | None = None
    extra: dict[str, int] = field(default_factory=dict)

    def blocks(self, name: str, count: int) -> BlockList:
        """`count` blocks of this shape; their parameters follow from their operations."""
        return BlockList(
            name=name,
            count=count,
            architecture=self.architecture,
            parameters=parameter_count(block_operations(self)),
            hidden=self.hidden,
            heads=self.heads,
            head_dim=self.head_dim,
            ffn=self.ffn,
            text_hidden=self.text_hidden,
            text_ffn=self.text_ffn,
            tensors=TENSORS[self.architecture],
            extra=self.extra,
        )


def from_diffusers_config(path: str | Path) -> Model:
    """The model that a transformer's config.json describes; raises ScenarioError."""
    path = Path(path)
    place, name = Place(path), one_line(path.name)
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise place.fault("expected a JSON object, the config.json of a diffusers transformer")
    kind = _kind(fields, place.child("_class_name"))
    try:
        blocks, other, pipeline = READERS[kind](Config(place, kind, fields))
    except ValueError as error:
        raise place.fault(str(error)) from None
    model = Model(
        name=_name(path, fields),
        title=f"{kind} of {name}",
        blocks=tuple(blocks),
        other_parameters=other,
        source=f"{name}, {kind}; parameters derived from its sizes",
        **pipeline,
    )
    return convert(msgspec.to_builtins(model), Model, path)


def _kind(fields: dict[str, Any], place: Place) -> str:
    """The class of the config, one of `READERS`."""
    allowed = f"allowed are {', '.join(sorted(READERS))}"
    if "_class_name" not in fields:
        raise place.fault(f"missing; {allowed}")
    kind = fields["_class_name"]
    if not isinstance(kind, str) or kind not in READERS:
        raise place.fault(allowed, kind)
    return kind


def _name(path: Path, fields: dict[str, Any]) -> str:
    """The checkpoint's own name, else the first telling part of the path, in kebab-case."""
    given = fields.get("_name_or_path")
    own = given.rstrip("/") if isinstance(given, str) else ""
    for part in (own, path.stem, path.parent.name, path.parent.parent.name):
        name = re.sub(r"[^a-z0-9.]+", "-", part.rsplit("/", 1)[-1].lower()).strip("-.")
        if name not in ("", "config", "transformer", "transformer-2"):
            return name[:LONGEST_NAME]
    return "unnamed"


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of one product."""
    return inputs * outputs + (outputs if bias else 0)


def mlp(inputs: int, hidden: int, bias: bool = True) -> int:
    """Two products, inputs -> hidden -> hidden: timestep, guidance and text embeddings."""
    return linear(inputs, hidden, bias) + linear(hidden, hidden, bias)


def _token_refiner(text: int, d: int, layers: int) -> int:
    """HunyuanVideo's text refiner: its own embeddings, then blocks of attention, FFN (4 d) and two gates."""
    block = 4 * linear(d, d) + 4 * d + linear(d, 4 * d) + linear(4 * d, d) + linear(d, 2 * d)
    return mlp(256, d) + mlp(text, d) + linear(text, d) + layers * block


Reading = tuple[list[BlockList], int, dict[str, Any]]
"""What the reader of a class finds: its block lists, the parameters around them, facts of its pipeline."""


def _heads(config: Config, architecture: str, mlp_ratio: float = 4.0, **more: Any) -> Shape:
    """The shape that most classes give as heads and their size."""
    heads, head_dim = config.integer("num_attention_heads"), config.integer("attention_head_dim")
    d = heads * head_dim
    check(d, Size, config.place.child("num_attention_heads x attention_head_dim"))
    return Shape(architecture, d, heads, head_dim, int(d * mlp_ratio), **more)


def _wan(config: Config) -> Reading:
    image = config.optional("added_kv_proj_dim")
    shape = replace(_heads(config, "wan-i2v" if image else "wan"), ffn=config.integer("ffn_dim"))
    d, patch, outputs = shape.hidden, config.triple("patch_size"), config.integer("out_channels")
    if image not in (None, d):
        raise ValueError(f"added_kv_proj_dim={image}: expected null or {d}, the hidden size")
    embeddings = mlp(config.integer("freq_dim"), d) + linear(d, 6 * d) + mlp(config.integer("text_dim"), d)
    clip = config.optional("image_dim")
    if clip:
        positions = (config.optional("pos_embed_seq_len") or 0) * clip
        embeddings += 2 * clip + linear(clip, clip) + linear(clip, d) + 2 * d + positions
    inputs = config.integer("in_channels")
    latents = linear(inputs * prod(patch), d) + linear(d, outputs * prod(patch)) + 2 * d
    stride = (4, 16, 16) if outputs == 48 else (4, 8, 8)
    pipeline = {"patch": patch, "vae_stride": stride, "text_tokens": 512, "steps": 50, "flow_shift": 5.0}
    return [shape.blocks("blocks", config.integer("num_layers", Few))], embeddings + latents, pipeline


def _flux(config: Config) -> Reading:
    double = _heads(config, "flux-double")
    d, inputs, guided = double.hidden, config.integer("in_channels"), config.flag("guidance_embeds")
    time = mlp(256, d) * (2 if guided else 1) + mlp(config.integer("pooled_projection_dim"), d)
    other = time + linear(config.integer("joint_attention_dim"), d) + linear(inputs, d) + linear(d, 2 * d)
    other += linear(d, config.integer("patch_size", Stride) ** 2 * (config.optional("out_channels") or inputs))
    pipeline = {"guidance": "distilled", "steps": 28 if guided else 4, "vae_stride": (1, 8, 8)}
    return _double_and_single(config, double, replace(double, architecture="flux-single")), other, pipeline


def _flux2(config: Config) -> Reading:
    double = _heads(config, "flux2-double", config.number("mlp_ratio", 3.0))
    d, inputs, guided = double.hidden, config.integer("in_channels"), config.flag("guidance_embeds", True)
    channels = config.optional("timestep_guidance_channels") or 256
    time = mlp(channels, d, bias=False) * (2 if guided else 1)
    modulation = 2 * 6 * d * d + 3 * d * d
    outputs = config.integer("patch_size", Stride) ** 2 * (config.optional("out_channels") or inputs)
    other = time + modulation + d * (config.integer("joint_attention_dim") + inputs + 2 * d + outputs)
    pipeline = {"guidance": "distilled", "steps": 50 if guided else 4, "vae_stride": (1, 8, 8)}
    return _double_and_single(config, double, replace(double, architecture="flux2-single")), other, pipeline


def _double_and_single(config: Config, double: Shape, single: Shape) -> list[BlockList]:
    return [
        double.blocks("transformer_blocks", config.integer("num_layers", Few)),
        single.blocks("single_transformer_blocks", config.integer("num_single_layers", Few)),
    ]


def _video_patch(config: Config) -> tuple[int, int, int]:
    rows = config.integer("patch_size", Stride)
    return config.integer("patch_size_t", Stride), rows, rows


def _hunyuan_video(config: Config) -> Reading:
    double = _heads(config, "flux-double", config.number("mlp_ratio", 4.0))
    d, guided = double.hidden, config.flag("guidance_embeds", True)
    patch = _video_patch(config)
    time = mlp(256, d) * (2 if guided else 1) + mlp(config.integer("pooled_projection_dim"), d)
    refiner = _token_refiner(config.integer("text_embed_dim"), d, config.integer("num_refiner_layers", Few))
    other = linear(config.integer("in_channels") * prod(patch), d) + refiner + time + linear(d, 2 * d)
    other += linear(d, prod(patch) * config.integer("out_channels"))
    guidance = "distilled" if guided else "cfg"
    pipeline = {"guidance": guidance, "patch": patch, "text_tokens": 256, "flow_shift": 7.0}
    return _double_and_single(config, double, replace(double, architecture="flux-single")), other, pipeline


def _hunyuan_video15(config: Config) -> Reading:
    shape = _heads(config, "flux-double", config.number("mlp_ratio", 4.0))
    d, image, glyph = shape.hidden, config.integer("image_embed_dim"), config.integer("text_embed_2_dim")
    patch = _video_patch(config)
    other = linear(config.integer("in_channels") * prod(patch), d) + 3 * d + linear(d, 2 * d)
    other += 2 * image + linear(image, image) + linear(image, d) + 2 * d
    other += _token_refiner(config.integer("text_embed_dim"), d, config.integer("num_refiner_layers", Few))
    other += 2 * glyph + mlp(glyph, 2048) + linear(2048, d)
    other += mlp(256, d) * (2 if config.flag("use_meanflow") else 1)
    other += linear(d, prod(patch) * config.integer("out_channels"))
    pipeline = {"patch": patch, "vae_stride": (4, 16, 16), "text_tokens": 1000, "flow_shift": 5.0}
    return [shape.blocks("transformer_blocks", config.integer("num_layers", Few))], other, pipeline


def _qwen_image(config: Config) -> Reading:
    shape = _heads(config, "flux-double")
    d, inputs, text = shape.hidden, config.integer("in_channels"), config.integer("joint_attention_dim")
    outputs = config.integer("patch_size", Stride) ** 2 * (config.optional("out_channels") or inputs)
    other = mlp(256, d) + text + linear(inputs, d) + linear(text, d) + linear(d, 2 * d) + linear(d, outputs)
    other += 2 * d if config.flag("use_additional_t_cond") else 0
    blocks = [shape.blocks("transformer_blocks", config.integer("num_layers", Few))]
    return blocks, other, {"vae_stride": (1, 8, 8)}


def _cogvideox(config: Config) -> Reading:
    time, patch_t = config.integer("time_embed_dim"), config.optional("patch_size_t", Stride)
    shape = _heads(config, "cogvideox", extra={"time_embedding": time})
    d, patch = shape.hidden, (patch_t or 1, config.integer("patch_size", Stride), config.integer("patch_size", Stride))
    patch_bias = patch_t is not None or config.flag("patch_bias", True)
    other = linear(config.integer("in_channels") * prod(patch), d, patch_bias)
    other += linear(config.integer("text_embed_dim"), d)
    other += mlp(d, time) + 2 * d + linear(time, 2 * d) + 2 * d
    other += linear(d, prod(patch) * config.integer("out_channels"))
    ofs = config.optional("ofs_embed_dim")
    other += mlp(ofs, ofs) if ofs else 0
    pipeline = {"patch": patch, "text_tokens": config.integer("max_text_seq_length")}
    return [shape.blocks("transformer_blocks", config.integer("num_layers", Few))], other, pipeline


READERS: dict[str, Callable[[Config], Reading]] = {
    "CogVideoXTransformer3DModel": _cogvideox,
    "Flux2Transformer2DModel": _flux2,
    "FluxTransformer2DModel": _flux,
    "HunyuanVideo15Transformer3DModel": _hunyuan_video15,
    "HunyuanVideoTransformer3DModel": _hunyuan_video,
    "QwenImageTransformer2DModel": _qwen_image,
    "WanTransformer3DModel": _wan,
}
