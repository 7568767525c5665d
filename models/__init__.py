"""Networks: arrays in, arrays out; nothing here knows DICOM, the node or its handlers."""
