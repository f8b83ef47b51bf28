"""The learner of a run: model and optimiser, moved a step at a time, and whether what they come to is finite."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..core.backbones import DRAWING, backbone_of, build, synchronized
from ..core.encoders import check_size
from ..core.siamese import Siamese
from ..processes import agree, collectives
from ..views.batches import Batches
from .checkpoints import LearnerState
from .machine import autocast, compiled, without_trace
from .optim import Piece, go_on, scheduled
from .plan import Plan

SKIPS = 20  # steps in a row that are left out before a run is given up
LEAST_SCALE = 1.0  # of the loss in fp16: gradients that overflow at a smaller one are too large themselves


class Learner:
    """Holds a plan's model and optimiser, the same in each process, and the sums of an epoch's steps so far."""

    def __init__(self, plan: Plan, batches: Batches):
        recipe, options = plan.recipe, plan.options
        self.plan, self.device, self.batches = plan, plan.device, batches
        with DRAWING:
            torch.manual_seed(options.seed)
            encoder = build(backbone_of(recipe), plan.data.size, channels=plan.data.channels)
            if plan.initial is not None:
                plan.initial.fill(encoder)
            for size in {size for _, size in batches.pipelines} - {plan.data.size}:
                mend = f"local_crops=0, local_size={plan.data.size}, or another --backbone"
                check_size(encoder, backbone_of(recipe), size, mend, plan.data.channels)
            self.untrained = {name: value.clone() for name, value in encoder.state_dict().items()}
            self.model = Siamese(encoder, recipe, len(plan.data.train)).to(self.device)
        if self.device.type != "mps":
            self.model.to(memory_format=torch.channels_last)
        if collectives.world() > 1:
            synchronized(self.model, self.device)
        self.norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        n = len(batches)
        pieces = [Piece(one.start * n, (one.epochs - one.start) * n, one.schedule, one.rate) for one in plan.extended]
        self.optimizer = scheduled(self.model, recipe, recipe.training.epochs * n, pieces)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        self.called: nn.Module = self.model
        self.in_a_row = 0
        self.begin_epoch()

    def join(self) -> None:
        """Average gradients over all processes, all of which have to come here.

        Parameters without a gradient are looked for in each step only if there can be some: a codebook that is frozen
        for some epochs, or what a step that is tried leaves out. A second trial lets torch put gradients into the
        buckets that they keep, in a resumed run too, which then adds in the same order.
        """
        if collectives.world() == 1:
            return
        unused = self.plan.recipe.clustering.freeze_epochs > 0 or agree.all_reduce_max(self.try_step(self.model)) > 0
        self.called = agree.parallel(self.model, self.device, unused)
        if not unused:
            self.try_step(self.called)

    def try_step(self, called: nn.Module) -> int:
        """Return how many parameters a step gives no gradient; a trial on noise, of which nothing stays."""
        n = self.rows
        with without_trace(self.model.train(), self.device):
            with self.autocast():
                loss, _ = called(self.noise(n), torch.arange(n, device=self.device))
            torch.autograd.backward(loss)
            return sum(p.requires_grad and p.grad is None for p in self.model.parameters())

    @property
    def rows(self) -> int:
        """Return how many images pass the model at once."""
        return self.batches.batch_size // collectives.world() // self.plan.options.accumulate

    @property
    def encoder(self) -> nn.Module:
        """Return the backbone that is evaluated and saved."""
        return self.model.online.encoder

    def begin_epoch(self) -> None:
        """Forget the sums of an epoch."""
        self.loss = torch.zeros((), device=self.device)  # of this process's rows
        self.finite = torch.zeros((), device=self.device)  # steps before the first one that is not
        self.done = self.skipped = 0

    def state(self) -> LearnerState:
        """Return where the learner is, for `restore`; all processes have to ask."""
        return LearnerState(
            model=self.model.state_dict(), optimizer=self.optimizer.state_dict(), done=self.done,
            loss=collectives.gather(self.loss[None]), skipped=self.skipped,
            scaler=self.scaler.state_dict() if self.scaler.is_enabled() else None,
        )  # fmt: skip

    def restore(self, state: LearnerState) -> None:
        """Take up a state. Raises what torch does where it belongs to another model."""
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(dict(state.optimizer))
        if self.plan.extended:
            go_on(self.optimizer)
        if state.scaler is not None:
            self.scaler.load_state_dict(dict(state.scaler))
        self.done, self.skipped, loss = state.done, state.skipped, state.loss
        self.loss = (loss[collectives.rank()] if len(loss) == collectives.world() else loss.mean()).to(self.device)
        self.finite += self.done

    def step(self, views: list[Tensor], index: Tensor, step: int) -> bool:
        """Make one step of the optimiser, in as many parts as are accumulated; the loss stays on the device.

        Return False for one that is left out, since it is not finite; of it nothing stays.
        """
        n, codes, self.done = self.plan.options.accumulate, self.model.codes, self.done + 1
        skips = self.plan.options.on_nan == "skip"
        before = [(buffer, buffer.clone()) for norm in self.norms if skips for buffer in norm.buffers()]
        losses, keys, scores = [], [], list[Tensor]()
        self.optimizer.zero_grad(set_to_none=True)
        for i, rows in enumerate(index.chunk(n)):
            apart = isinstance(self.called, DistributedDataParallel) and i + 1 < n
            with self.called.no_sync() if apart else nullcontext():  # type: ignore[operator]
                with self.autocast():
                    loss, key = self.called([view.chunk(n)[i] for view in views], rows)
                torch.autograd.backward(self.scaler.scale(loss / n))
            losses.append(loss.detach())
            keys.append(key)
            scores += [] if codes is None else codes.scores
        loss = torch.stack(losses).mean()
        if skips and not self.usable(loss):
            for buffer, value in before:
                buffer.copy_(value)
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            self.finite += self.in_a_row < SKIPS  # a step that is left out counts as finite, up to so many in a row
            return False
        self.in_a_row = 0
        self.scaler.unscale_(self.optimizer)  # which looks at the gradients' norms, it may be
        self.scaler.step(self.optimizer)  # in fp16 it moves nothing where they overflow, without anybody's waiting
        self.scaler.update()
        if codes is not None:
            codes.scores = scores
        self.model.update(torch.cat(keys, dim=1), index, step)
        self.loss += loss
        self.finite += self.loss.isfinite()
        return True

    def usable(self, loss: Tensor) -> bool:
        """Return whether loss and gradients are finite in all processes; wait for the device.

        In fp16 the loss alone counts: where gradients overflow, the scaler leaves their step out and scales less.
        """
        if self.scaler.is_enabled():
            return not agree.all_reduce_max(not bool(loss.isfinite()))
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return not agree.all_reduce_max(not bool((loss + norm).isfinite()))

    def diverged(self, wait: bool) -> bool:
        """Return whether a loss was not finite. A device is asked only with ``wait``, since one waits for it."""
        return (wait or self.device.type == "cpu") and (int(self.finite) < self.done or self.overflows())

    def overflows(self) -> bool:
        """Return whether gradients overflow fp16 however little the loss is scaled; wait for the device."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE

    def first_diverged(self) -> int:
        """Return the epoch's first step that is not finite in some process; all have to ask."""
        return 1 - agree.all_reduce_max(-int(self.finite))

    def mean_loss(self) -> float:
        """Return the mean loss of the epoch's steps so far, over this process's rows."""
        return float(self.loss) / max(self.done - self.skipped, 1)

    def autocast(self) -> torch.autocast:
        """Return a block that computes in the plan's precision."""
        return autocast(self.device, self.plan.precision)

    def noise(self, n: int) -> list[Tensor]:
        """Return views [n, 3, size, size] of n images of noise, to try what the model makes of them."""
        generator = torch.Generator(self.device).manual_seed(0)
        sizes = [size for _, size in self.batches.pipelines]
        made = [torch.rand(n, self.plan.data.channels, s, s, generator=generator, device=self.device) for s in sizes]
        return [images.contiguous(memory_format=self.batches.finish.layout) for images in made]

    def compile(self) -> str | None:
        """Compile the model and try it on noise; return the reason where that is not to be had."""
        n = self.rows
        self.model.train()
        why = compiled(self.model, self.noise(n), torch.arange(n, device=self.device), self.autocast())
        if not agree.all_reduce_max(why is not None):
            return None
        self.model._compiled_call_impl = None
        return why or "torch.compile failed in another process; going on without it."

    def try_batch(self, n: int) -> bool:
        """Make a step with n images and return True. Raises what the device raises where memory does not hold it."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        with self.autocast():
            loss, _ = self.model(self.noise(n), torch.arange(n, device=self.device))
        torch.autograd.backward(loss)
        return True
