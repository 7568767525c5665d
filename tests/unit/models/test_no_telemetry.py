"""A model runs without OpenVINO's telemetry, which writes and calls out."""

import subprocess
import sys


def test_openvino_takes_its_stub_for_telemetry_where_a_model_runs() -> None:
    loads = "import ainode.models.running.runtime; from openvino.tools.ovc import telemetry_utils"
    code = f"{loads}; print(telemetry_utils.tm.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
