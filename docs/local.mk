# docs
EXTRA_DIST += docs/job.md docs/layer-types.md docs/store.md
