"""Runs bundles by MONAI's own runner, in a process of its own: monai_run.py FOLDER…

Each folder has `image.nii` and, for the runner's own way to load weights, `models/model.pt`; MONAI writes below `eval`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path


def main() -> None:
    warnings.simplefilter("ignore")
    from monai.bundle import ConfigWorkflow

    for folder in map(Path, sys.argv[1:]):
        workflow = ConfigWorkflow(
            config_file=str(folder / "configs/inference.json"),
            meta_file=str(folder / "configs/metadata.json"),
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(folder),
            datalist=[str(folder / "image.nii")],
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()


if __name__ == "__main__":
    main()
