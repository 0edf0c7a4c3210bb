"""Commands that compress data without loss."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there
from contextlib import closing
from pathlib import Path

from vaezoo.cli.app import Model, app, console, interruptible
from vaezoo.cli.progress import ShownProgress
from vaezoo.cli.threads import with_threads


@app.command
def compress(data: str, *, model: Model, out: Path, split: str | None = None, limit: int | None = None) -> None:
    """Compress images without loss, with a model whose likelihood is a probability mass (bits-back coding).

    Args:
        data: Folder of images of the model's size, or a data set such as mnist, as it is in training.
        out: File to write.
        split: Split of the data; "test" by default for a data set, and all images for a folder.
        limit: Number of examples, chosen with a fixed seed; all by default.
    """
    from vaezoo.workflows.compress import compress_files

    # Probabilities may depend on the number of threads; the coder needs the same ones twice.
    nothing = interruptible("no file was written")
    with nothing, with_threads(1), closing(ShownProgress("example", title="compression")) as bar:
        found = compress_files(data, model=model, out=out, split=split, limit=limit, report=bar)
    console().print(
        f"Wrote {out}: {found.images:,} examples in {len(found.data):,} bytes, "
        f"{found.total_bits_per_dimension:.4f} bits for each element ({found.bits_per_dimension:.4f} of the coder)."
    )


@app.command
def decompress(file: Path, *, out: Path, model: str | None = None) -> None:
    """Restore the examples of a file that `compress` wrote.

    Args:
        file: The file.
        out: New folder for images, or a file that ends in .npz.
        model: The model that it was compressed with; the one that it names by default, if that is pretrained.
    """
    from vaezoo.workflows.compress import decompress_files

    nothing = interruptible("nothing was written")
    with nothing, with_threads(1), closing(ShownProgress("example", title="decompression")) as bar:
        count = decompress_files(file, out=out, model=model, report=bar)
    console().print(f"Wrote {out}: {count:,} examples.")
