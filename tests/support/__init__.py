"""Made-up studies and tiny models that several folders of tests share."""
