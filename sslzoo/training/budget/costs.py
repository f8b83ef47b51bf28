"""What a run of so many epochs takes, from how fast its parts are."""

from dataclasses import dataclass

from ...data.splits import Dataset
from ...recipes.recipe import Recipe
from ...views.colours import BINS
from ...views.features import raw_size
from .timing import READ, Speed

START = 8.0  # seconds until a command has torch and a run has its directory, and for its last words
LOOKS = 8  # about so many of kNN in a run


@dataclass(frozen=True)
class Costs:
    """Describes what a recipe costs on data, which were found and need not be read, with views of a size in px."""

    speed: Speed
    recipe: Recipe
    data: Dataset
    size: int
    baselines: bool
    knn_every: int | None = None

    def seconds(self, epochs: int) -> float:
        """Return the seconds of a whole run, from the command to its last table."""
        once = START + self.speed.compiling + self.reading() + self.end()
        return once + epochs * self.epoch() + self.looks(epochs) * self.look()

    def reading(self) -> float:
        """Return the seconds that it takes to read all images."""
        images = sum(map(len, self.data.splits.values()))
        return self.speed.an_image * (images + min(images, READ))

    def epoch(self) -> float:
        """Return the seconds of an epoch with its checkpoint."""
        return len(self.data.train) // self.recipe.training.batch_size * self.speed.a_step + self.speed.a_checkpoint

    def looks(self, epochs: int) -> int:
        """Return how often kNN is measured while a run goes on."""
        every = self.knn_every or max(1, -(-epochs // LOOKS))
        return -(-epochs // every) if self.data.labelled else 0

    def look(self) -> float:
        """Return the seconds of one of these, with a tenth of the training images, or the validation split, to ask."""
        bank, asking = len(self.data.bank), len(self.data.val or ()) or len(self.data.bank) // 10
        return self.knn(bank, asking, self.speed.width) + self.speed.features * (bank + asking)

    def end(self) -> float:
        """Return the seconds of kNN on the test split: of the backbone, and of what it is compared with."""
        if not self.data.labelled:
            return 0.0
        bank, asking = len(self.data.bank), len(self.data.test or ())
        once = self.knn(bank, asking, self.speed.width) + self.speed.features * (bank + asking)
        raw = self.knn(bank, asking, 3 * raw_size(bank + asking, self.size) ** 2)
        colours = self.knn(bank, asking, BINS**3)
        return once + (once + raw + colours if self.baselines else 0.0)

    def knn(self, bank: int, asking: int, width: int) -> float:
        """Return the seconds of an exact search."""
        return self.speed.a_billion * bank * asking * width / 1e9
