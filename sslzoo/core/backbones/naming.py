"""How a backbone is named: a name, and what of it differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ...recipes import plugins
from ...recipes.recipe import Recipe
from ...recipes.schema import Value
from ...tools.errors import UserError, listing

STEMS = ("3x3", "3x3p2", "7x7")  # of residual nets: of stride 1 without pooling, padded by 1 or 2; of stride 2 with it
OWN = ("stem", "norm_eps")  # arguments that timm does not have
OURS = ("pretrained", "num_classes", "in_chans", "img_size", "features_only", "checkpoint_path", "scriptable",
        "exportable", "cache_dir", "pretrained_cfg", "dynamic_img_size")  # fmt: skip
LONGEST = 400  # letters of a name with its arguments


@dataclass(frozen=True)
class Backbone:
    """Names a backbone and what of it differs from timm's model of that name, as in "resnet50:stem=3x3".

    ``args`` are arguments of timm's model, as "num_heads" or "drop_path_rate". Of a residual net ``stem`` says how it
    begins, where that does not follow from the size of a view; ``norm_eps`` is added to variances in layer norms.
    """

    name: str
    args: Mapping[str, Value] = field(default_factory=dict)
    stem: str | None = None
    norm_eps: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the backbone of a text, NAME or NAME:KEY=VALUE,KEY=VALUE. Raises `UserError`."""
        name, colon, rest = text.partition(":") if not text.startswith(plugins.GIVEN) else (text, "", "")
        args: dict[str, Value] = {}
        for word in rest.split(",") if colon else ():
            key, equals, value = word.partition("=")
            if key in OURS:
                raise UserError(f"The backbone's {key} is not a person's to choose; leave {word!r} out.")
            if not (key.isidentifier() and equals and value) or key in args or len(text) > LONGEST:
                raise UserError(
                    f"The backbone cannot be {text[:LONGEST]!r}; it is NAME, or NAME:KEY=VALUE,KEY=VALUE, as in "
                    "vit_small_patch16_224:num_heads=12."
                )
            args[key] = _value(value)
        stem, eps = (args.pop(key, None) for key in OWN)
        if stem not in (None, *STEMS):
            raise UserError(f"stem cannot be {stem!r}; it is {listing(STEMS)}.")
        if eps is not None and not (isinstance(eps, float) and 0 < eps < 1):
            raise UserError(f"norm_eps cannot be {eps!r}; it is a small number, as 1e-6.")
        return cls(name, args, stem, eps)

    def __str__(self) -> str:
        own = {key: value for key, value in zip(OWN, (self.stem, self.norm_eps), strict=True) if value is not None}
        words = [f"{key}={str(value).lower() if value in (True, False) else value}" for key, value in own.items()]
        words += [f"{key}={_text(value)}" for key, value in self.args.items()]
        return f"{self.name}:{','.join(words)}" if words else self.name


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str) -> Value:
    """Return a word as true or false, a number, or itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def backbone_of(recipe: Recipe) -> str:
    """Return a recipe's backbone with what the recipe chooses of it, as arguments of timm's models."""
    chosen, asked = recipe.encoder, Backbone.parse(recipe.training.backbone)
    given: dict[str, Value] = {"init_values": chosen.layer_scale, "drop_path_rate": chosen.drop_path}
    if chosen.pool != "default":
        given["global_pool"] = chosen.pool
    args = {**asked.args, **{key: value for key, value in given.items() if value}}
    return str(Backbone(asked.name, args, asked.stem, asked.norm_eps))
