"""The experiments behind the write-ups' figures, and what this project asks of itself: one row, one command.

`tests.benchmarks.results` runs them and writes docs/results.md. A published figure is the write-up's own
words; a wanted one is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

JPEG75 = "cifar10-jpeg75"  # CIFAR-10's pictures, saved as JPEG of quality 75, in folders


@dataclass(frozen=True, kw_only=True)
class LastEpoch:
    """What a write-up prints of its last epoch of training; None for what it does not print.

    Attributes:
        loss: mean cross-entropy over the epoch's steps.
        accuracy: share of the training pictures that were right, 0 to 1.
        images_per_second: on the write-up's GPU.
    """

    loss: float
    accuracy: float | None = None
    images_per_second: float | None = None


@dataclass(frozen=True)
class Experiment:
    """A command whose accuracy is a row of the table.

    Attributes:
        key: short, stable name; runs are kept under it.
        group: heading of the table it belongs to.
        what: the experiment in words.
        model: name in the zoo.
        options: what follows `cnnkit train MODEL`, without seed, threads and data set.
        published: the write-up's figure, as it prints it; "–" where it has none.
        wanted: smallest mean accuracy asked of it here; None where it is only reported.
        seeds: runs asked for; one where a run takes more than ten minutes.
        dataset: None for the model's own.
        last_epoch: what the write-up prints of its training, where it does.
    """

    key: str
    group: str
    what: str
    model: str
    options: tuple[str, ...] = ()
    published: str = "–"
    wanted: float | None = None
    seeds: int = 5
    dataset: str | None = None
    last_epoch: LastEpoch | None = None

    @property
    def command(self) -> str:
        """What a user types for it."""
        data = f" --dataset folder:{self.dataset}" if self.dataset else ""
        return " ".join(["cnnkit train", self.model, *self.options]) + data


TEXTBOOK = ("--recipe", "textbook")
LENET, ALEXNET, NIN = "LeNet on Fashion-MNIST", "AlexNet on Fashion-MNIST", "NiN on Fashion-MNIST"
LENET5, CIFAR = "LeNet-5 on MNIST", "CIFAR-10-JPEG75"


def _lenets() -> list[Experiment]:
    rows = [
        Experiment("lenet-textbook", LENET, "sigmoids, lr 0.9, 5 epochs", "lenet", TEXTBOOK, "0.795"),
        Experiment("lenet-default", LENET, "sigmoids, best settings found", "lenet"),
    ]
    for batch, workers, published in (
        (64, 2, "0.795, 53.6 s (GPU)"),
        (256, 4, "0.635, 57.5 s (GPU)"),
        (32, 2, "0.803, 65 s (GPU)"),
        (32, 1, "0.822, 69 s (GPU)"),
        (16, 1, "0.854, 80 s (GPU)"),
        (8, 1, "0.856, 115 s (GPU); 0.852, 181 s (CPU)"),
        (256, 8, "0.509, 115 s (GPU)"),
    ):
        loader = ("--batch", str(batch), "--loader", "torch", "--workers", str(workers))
        what = f"batch {batch}, {workers} {'worker' if workers == 1 else 'workers'}"
        rows.append(
            Experiment(f"lenet-b{batch}-w{workers}", LENET, what, "lenet", (*TEXTBOOK, *loader), published)
        )
    for batch in (8, 16, 32, 128, 256):
        options = (*TEXTBOOK, "--batch", str(batch))
        rows.append(Experiment(f"lenet-b{batch}", LENET, f"batch {batch}, in memory", "lenet", options))
    scaled = (*TEXTBOOK, "--batch", "256", "--epochs", "20")
    rows += [
        Experiment("lenet-b256-steps", LENET, "batch 256, 20 epochs", "lenet", scaled),
        Experiment(
            "relu-0.9",
            LENET,
            "ReLU, lr kept at 0.9",
            "lenet-relu",
            (*TEXTBOOK, "--lr", "0.9", "--epochs", "5"),
            "0.10",
        ),
        Experiment(
            "relu-0.9-guard",
            LENET,
            "ReLU, lr 0.9, guarded",
            "lenet-relu",
            (*TEXTBOOK, "--lr", "0.9", "--epochs", "5", "--guard"),
            wanted=0.8,
            seeds=10,
        ),
        Experiment(
            "relu-textbook",
            LENET,
            "ReLU, lr 0.1, 10 epochs",
            "lenet-relu",
            TEXTBOOK,
            "0.867",
            last_epoch=LastEpoch(loss=0.290, accuracy=0.891),
        ),
        Experiment("relu-0.05", LENET, "ReLU, lr 0.05, 10 epochs", "lenet-relu", (*TEXTBOOK, "--lr", "0.05")),
        Experiment("relu-default", LENET, "ReLU, best settings found", "lenet-relu", wanted=0.905),
        Experiment(
            "maxpool-textbook",
            LENET,
            "max pooling, lr 0.1, 10 epochs",
            "lenet-maxpool",
            (*TEXTBOOK, "--lr", "0.1"),
            "0.885 (fails at times)",
            last_epoch=LastEpoch(loss=0.261, accuracy=0.902),
        ),
        Experiment(
            "maxpool-0.05",
            LENET,
            "max pooling, lr 0.05, 10 epochs",
            "lenet-maxpool",
            (*TEXTBOOK, "--lr", "0.05"),
        ),
        Experiment(
            "maxpool-default", LENET, "max pooling, best settings found", "lenet-maxpool", wanted=0.91
        ),
        Experiment(
            "maxpool-10", LENET, "max pooling, default, 10 epochs", "lenet-maxpool", ("--epochs", "10")
        ),
        Experiment(
            "maxpool-10-unflipped",
            LENET,
            "max pooling, 10 epochs, no flip, lr 0.006",
            "lenet-maxpool",
            ("--epochs", "10", "--lr", "0.006", "--no-flip"),
            wanted=0.91,
        ),
        Experiment(
            "maxpool-fast",
            LENET,
            "max pooling, fast recipe",
            "lenet-maxpool",
            ("--recipe", "fast"),
            wanted=0.90,
        ),
        Experiment(
            "maxpool-best",
            LENET,
            "max pooling, best recipe",
            "lenet-maxpool",
            ("--recipe", "best"),
            wanted=0.925,
        ),
        Experiment(
            "maxpool-best-held",
            LENET,
            "max pooling, best recipe, a tenth held out to choose the epoch",
            "lenet-maxpool",
            ("--recipe", "best", "--validation-fraction", "0.1", "--select", "best"),
        ),
        Experiment(
            "dropout-textbook",
            LENET,
            "dropout 0.2, lr 0.6, batch 128",
            "lenet-dropout",
            TEXTBOOK,
            "0.883",
            last_epoch=LastEpoch(loss=0.306, accuracy=0.887, images_per_second=26121.2),
        ),
        Experiment("dropout-default", LENET, "dropout, best settings found", "lenet-dropout", wanted=0.90),
    ]
    return rows


def _large() -> list[Experiment]:
    return [
        Experiment(
            "alexnet28-textbook",
            ALEXNET,
            "for 28 pixels, lr 0.01",
            "alexnet28",
            TEXTBOOK,
            "0.843",
            last_epoch=LastEpoch(loss=0.429, accuracy=0.841, images_per_second=6650.9),
        ),
        Experiment(
            "alexnet28-12",
            ALEXNET,
            "for 28 pixels, best settings found, 12 epochs",
            "alexnet28",
            ("--epochs", "12"),
            seeds=1,
        ),
        Experiment(
            "alexnet28-default",
            ALEXNET,
            "for 28 pixels, best settings found",
            "alexnet28",
            wanted=0.925,
            seeds=1,
        ),
        Experiment(
            "alexnet-textbook",
            ALEXNET,
            "224 pixels, lr 0.01, 10 epochs",
            "alexnet",
            TEXTBOOK,
            "0.878",
            seeds=1,
            last_epoch=LastEpoch(loss=0.330, accuracy=0.879, images_per_second=592.4),
        ),
        Experiment(
            "alexnet-textbook-15",
            ALEXNET,
            "224 pixels, lr 0.01, 15 epochs",
            "alexnet",
            (*TEXTBOOK, "--epochs", "15"),
            "0.887",
            seeds=1,
            last_epoch=LastEpoch(loss=0.284, accuracy=0.896, images_per_second=589.3),
        ),
        Experiment(
            "alexnet-textbook-b256",
            ALEXNET,
            "224 pixels, lr 0.01, batch 256, 10 epochs",
            "alexnet",
            (*TEXTBOOK, "--batch", "256"),
            "0.855",
            seeds=1,
            last_epoch=LastEpoch(loss=0.407, accuracy=0.850, images_per_second=587.8),
        ),
        Experiment(
            "alexnet-default", ALEXNET, "224 pixels, best settings found", "alexnet", wanted=0.90, seeds=1
        ),
        Experiment("nin-default", NIN, "224 pixels, best settings found", "nin", wanted=0.90, seeds=1),
        Experiment(
            "nin-textbook",
            NIN,
            "224 pixels, lr 0.1, 10 epochs",
            "nin",
            TEXTBOOK,
            "no start, or 1.0 and then 0.25, or better",
            seeds=1,
        ),
        Experiment("lenet5-textbook", LENET5, "50 epochs", "lenet5", TEXTBOOK, "1 (its last batch)"),
        Experiment(
            "lenet5-constant",
            LENET5,
            "50 epochs, the rate never lowered",
            "lenet5",
            (*TEXTBOOK, "--schedule", "constant"),
            "1 (its last batch)",
        ),
        Experiment("lenet5-default", LENET5, "best settings found", "lenet5", wanted=0.992),
    ]


def _cifar() -> list[Experiment]:
    def row(
        key: str,
        what: str,
        model: str,
        options: tuple[str, ...] = TEXTBOOK,
        published: str = "–",
        wanted: float | None = None,
        seeds: int = 5,
        loss: float | None = None,
    ) -> Experiment:
        last = LastEpoch(loss=loss) if loss is not None else None
        return Experiment(key, CIFAR, what, model, options, published, wanted, seeds, JPEG75, last)

    rows = [row("cifarnet-textbook", "SGD, batch 64, 12 epochs", "cifarnet", published="0.56", loss=1.211)]
    rows += [
        row(f"cifarnet-b{batch}", f"batch {batch}", "cifarnet", (*TEXTBOOK, "--batch", str(batch)), published)
        for batch, published in ((16, "0.65"), (32, "0.63"), (128, "0.47"))
    ]
    rows += [
        row("cifarnet-flip", "horizontal flip", "cifarnet", (*TEXTBOOK, "--flip"), "0.56", loss=1.226),
        row(
            "cifarnet-step", "SGD with StepLR", "cifarnet", ("--recipe", "textbook-step"), "0.60", loss=1.068
        ),
        row("cifarnet-lr", "SGD at twice the rate", "cifarnet", (*TEXTBOOK, "--lr", "0.002")),
        row("cifarnet-adam", "Adam", "cifarnet", ("--recipe", "textbook-adam"), "0.65", loss=0.779),
        row(
            "cifarnet-adam-step",
            "Adam with StepLR",
            "cifarnet",
            ("--recipe", "textbook-adam-step"),
            "0.65",
            loss=0.668,
        ),
        row(
            "cifarnet-b128-lr",
            "batch 128, twice the rate",
            "cifarnet",
            (*TEXTBOOK, "--batch", "128", "--lr", "0.002"),
        ),
        row("cifarnet-bn", "three batch norms", "cifarnet-bn", published="0.65"),
        row("cifarnet-kaiming", "Kaiming-uniform start", "cifarnet-kaiming", published="0.57"),
        row("cifarnet-wide", "twice the channels", "cifarnet-wide", published="0.60"),
        row("cifarnet-default", "best settings found", "cifarnet", ()),
        row(
            "cifarnet-unaugmented",
            "best settings, without flip and crop",
            "cifarnet",
            ("--no-flip", "--crop-padding", "0"),
        ),
        row("best-textbook", "256 channels, all of it", "cifarnet-best", published="0.83", seeds=1),
        row("best-default", "256 channels, best settings found", "cifarnet-best", (), wanted=0.80, seeds=1),
        row("resnet18-textbook", "ImageNet's stem", "resnet18", published="0.83", seeds=1),
        row(
            "resnet18-cifar-adamw",
            "3×3 stem, AdamW, 8 epochs",
            "resnet18-cifar",
            (
                "--epochs",
                "8",
                "--optimizer",
                "adamw",
                "--lr",
                "0.003",
                "--weight-decay",
                "0.05",
                "--no-nesterov",
            ),
            seeds=1,
        ),
        row(
            "resnet18-cifar-8",
            "3×3 stem, best settings found, 8 epochs",
            "resnet18-cifar",
            ("--epochs", "8"),
            seeds=1,
        ),
        row(
            "resnet18-cifar-default",
            "3×3 stem, best settings found",
            "resnet18-cifar",
            (),
            wanted=0.86,
            seeds=1,
        ),
    ]
    return rows


EXPERIMENTS = (*_lenets(), *_large(), *_cifar())
