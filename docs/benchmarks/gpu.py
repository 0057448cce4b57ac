"""How fast a GPU embeds: `curate run` beside the bare model and all-core decoding, with random weights.

Needs the project, torch and open_clip; no network and no Ray. JPEG shards are drawn on the spot.

    python docs/benchmarks/gpu.py --json docs/benchmarks/gpu.json
    python docs/benchmarks/gpu.py --device cpu --images 64 --model ViT-B-32    # does it run at all?
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from curate.bench.speed.measure import Sizes, SpeedBench, bench_speed
from curate.bench.speed.records import Record, environment
from curate.bench.speed.tables import speed_tables
from curate.errors import CurateError


def main() -> None:
    """Measure every model that was asked for; the records so far are in the file after each."""
    given = _arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU is to be seen here, so nothing was measured; `--device cpu` tries the script out")
    accelerator = torch.cuda.get_device_name() if given.device == "cuda" else "none"
    records: list[Record] = [environment({"accelerator": accelerator, "models": given.model, "images": given.images})]
    for model in given.model:
        bench = SpeedBench(
            inputs=[],
            image_sizes=given.image_size,
            rounds=given.repeats,
            model=model,
            device=given.device,
            work=given.work.absolute(),
            runners=["local"],
            sizes=Sizes(images=given.images, part_rows=min(given.part_rows, given.images)),
        )
        for record in bench_speed(bench, ["end_to_end"], lambda what: sys.stderr.write(f"{what}\n")):
            records.append({**record, "model": Path(model).stem})
            if given.json is not None:
                given.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    for table in speed_tables(records):
        for row in (table.heads, *table.rows):
            sys.stdout.write("  ".join(row) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", nargs="+", default=["ViT-B-32", "ViT-L-14"], help="open_clip models or configs")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, nargs="+", default=[640], help="longest side in pixels")
    parser.add_argument("--part-rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-gpu"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except CurateError as error:
        sys.exit(f"error: {error}")
