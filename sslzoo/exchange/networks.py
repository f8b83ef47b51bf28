"""Which network of a file is meant: all that it holds, by the prefixes of their keys, and the one that is taken."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..core.backbones import Backbone
from ..tools.errors import UserError, listing
from .files import Contents
from .layouts import LAYOUTS, USUAL_HEADS, Fit, Layout, State, Unknown

# How a file calls one of two networks of the same kind: the copy that follows, or the one that learns by gradient. A
# teacher, and an average of weights, are what their own codes evaluate, and so they are taken where nobody says more.
TARGET = re.compile(r"(^|[._])(teacher|ema|swa|averaged|momentum|target|encoder_k|key_encoder|copy)([._]|$)")
EVALUATED = re.compile(r"(^|[._])(teacher|ema|swa|averaged)([._]|$)")
SHOWN = 3  # names of a list that are shown


@dataclass(frozen=True)
class Network:
    """A network of a file: the prefix of its keys, and its layout."""

    prefix: str
    layout: Layout

    @property
    def is_target(self) -> bool:
        """Return whether it is called a copy that follows another network."""
        return TARGET.search(self.prefix) is not None

    @property
    def rank(self) -> tuple[int, int]:
        """Return its place among those of a file, of which the lowest is taken."""
        kind = 0 if EVALUATED.search(self.prefix) else 2 if self.is_target else 1
        return kind, len(self.prefix)


def networks(contents: Contents) -> list[Network]:
    """Return the networks of known layouts in a file, the one that is taken first."""
    keys, found = contents.tensors, []
    for layout in LAYOUTS:
        anchor = layout.anchors[0]
        for key in keys:
            prefix = key[: len(key) - len(anchor)]
            if key.endswith(anchor) and prefix[-1:] in ("", ".") and layout.is_below(prefix, keys):
                found.append(Network(prefix, layout))
    return sorted(found, key=lambda network: network.rank)


def choose(contents: Contents, network: str | None) -> tuple[Network, list[Network]]:
    """Return the network that is meant, and the others.

    ``network`` is "online", "target", a prefix of keys, or None for the usual one. Raises `UserError` where there is
    none, where the one that is asked for is missing, and where two are as likely.
    """
    found = networks(contents)
    if not found:
        raise UserError(nothing(contents))
    if network not in (None, "online", "target"):
        named = next((one for one in found if one.prefix.rstrip(".") == network.rstrip(".")), None)
        if named is None:
            raise UserError(f"{contents.path} has no network {network!r}, only {_named(found)}; name one of these.")
        return named, [one for one in found if one is not named]
    asked = [one for one in found if network is None or one.is_target == (network == "target")]
    if not asked:
        raise UserError(
            f"{contents.path} has no {network} network, only {_named(found)}; leave --network {network} out."
        )
    first = asked[0]
    rivals = [one for one in asked[1:] if one.rank[0] == first.rank[0] and not _equal(contents, first, one)]
    rivals += [one for one in asked[1:] if one.rank[0] > first.rank[0] == 0 and not _alike(contents, first, one)]
    if rivals:
        raise UserError(
            f"{contents.path} holds {len(rivals) + 1} networks ({_named([first, *rivals])}), and nothing says which is "
            f"meant; name one, as in --network {first.prefix.rstrip('.') or 'online'}."
        )
    return first, [one for one in found if one is not first]


def _named(found: Iterable[Network]) -> str:
    return ", ".join(one.prefix.rstrip(".") or "one without a prefix" for one in found)


def _equal(contents: Contents, one: Network, other: Network) -> bool:
    """Return whether two networks are one, under two names."""
    states = [below(contents, network.prefix) for network in (one, other)]
    return states[0].keys() <= states[1].keys() and all(
        torch.equal(value, states[1][key]) for key, value in states[0].items()
    )


def _alike(contents: Contents, one: Network, other: Network) -> bool:
    """Return whether two networks are one backbone, as a teacher and its student."""
    if one.layout is not other.layout:
        return False
    try:
        return len({fit(contents, network).backbone for network in (one, other)}) == 1
    except UserError:  # of shapes that are known of neither
        return below(contents, one.prefix).keys() == below(contents, other.prefix).keys()


def below(contents: Contents, prefix: str) -> State:
    """Return the tensors below a prefix, by what follows it."""
    return {key[len(prefix) :]: value for key, value in contents.tensors.items() if key.startswith(prefix)}


def nothing(contents: Contents) -> str:
    """Return the sentence for a file in which no network is known."""
    if not contents.tensors:
        return f"{contents.path} holds no weights; give a file that holds a network's state_dict()."
    some = ", ".join([*contents.tensors][:SHOWN])
    return (
        f"{contents.path} has weights of no layout that is known here (its keys begin with {some}); say with "
        "--backbone of which of timm's models they are."
    )


def fit(contents: Contents, network: Network, backbone: str | None = None) -> Fit:
    """Return a network's weights by timm's names, and what backbone they fit.

    A ``backbone`` that somebody names tells the number of heads, which shapes do not. Raises `UserError`.
    """
    config = dict(contents.config)
    if backbone is not None:
        config["num_attention_heads"] = Backbone.parse(backbone).args.get("num_heads", USUAL_HEADS)
    try:
        return network.layout.fit(below(contents, network.prefix), config)
    except Unknown as error:
        raise UserError(f"{contents.path} has {network.layout.words} keys, but {error}.") from None
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError, AttributeError) as error:
        raise UserError(
            f"{contents.path} has {network.layout.words} keys, but it is not whole ({type(error).__name__} "
            f"{str(error)[:80]}); give a whole file."
        ) from None


def by_names(contents: Contents, names: Iterable[str], network: str | None = None) -> str | None:
    """Return the prefix below which a model's own names are; None where it is not there.

    Where several are, the one that `choose` would take.
    """
    wanted = [*names]
    anchor = wanted[0]
    prefixes = [
        key[: len(key) - len(anchor)] for key in contents.tensors
        if key.endswith(anchor) and key[: len(key) - len(anchor)][-1:] in ("", ".")
    ]  # fmt: skip
    rated = []
    for prefix in prefixes:
        there, named = sum(prefix + name in contents.tensors for name in wanted), Network(prefix, LAYOUTS[0])
        if network in (None, prefix.rstrip(".")) or named.is_target == (network == "target"):
            rated.append((-there, named.rank, prefix))
    return min(rated)[2] if rated else None


def told(contents: Contents, network: Network, found: Fit, others: Iterable[Network]) -> str:
    """Return in a line what was made of a file."""
    heads = list(dict.fromkeys(key.partition(".")[0] for key in found.left))
    parts = [f"{network.prefix.rstrip('.') or 'weights'} -> {found.backbone} at {found.size} px"]
    if heads:
        more = f" and {len(heads) - SHOWN} more" if len(heads) > SHOWN else ""
        parts.append(f"without {', '.join(heads[:SHOWN])}{more}")
    if other := [one.prefix.rstrip(".") for one in others if one.prefix]:
        parts.append(f"{listing(other[:SHOWN])} beside it is not used")
    return "; ".join([*parts, *found.notes])
