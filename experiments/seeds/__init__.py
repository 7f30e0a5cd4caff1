"""The measurements and questions that offsim starts from, one folder per question."""
