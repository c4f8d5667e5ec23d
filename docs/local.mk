# docs
EXTRA_DIST += docs/cli.md docs/gpu.md docs/install.md docs/job.md docs/layer-types.md docs/proxies.md docs/store.md
EXTRA_DIST += docs/report.png
