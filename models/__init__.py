"""Networks: arrays in, arrays out; nothing here knows DICOM, the node or its handlers."""

import sys

# OpenVINO's telemetry makes a folder in the home folder and calls a server. Without that package, which is looked up
# when OpenVINO is imported, OpenVINO takes a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
