"""Vision towers, language models and where they live: finding, fetching, loading, sizes."""
