"""One module per clinical question: select a study, read it, speak in findings."""
