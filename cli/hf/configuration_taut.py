"""Configuration of a network that Taut found: `arch` is its architecture, as Taut writes it."""
from transformers import PretrainedConfig


class TautConfig(PretrainedConfig):
    model_type = "taut"

    def __init__(self, arch=None, norm_eps=1e-5, **kwargs):
        self.arch = arch or {"vocab": 256, "context": 256, "width": 64, "layers": []}
        self.norm_eps = norm_eps
        self.vocab_size = self.arch["vocab"]
        self.hidden_size = self.arch["width"]
        self.num_hidden_layers = len(self.arch["layers"])
        self.max_position_embeddings = self.arch["context"]
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
            kwargs.pop(key, None)
        kwargs["tie_word_embeddings"] = self.arch.get("tie_embeddings", True)
        kwargs["use_cache"] = False
        super().__init__(**kwargs)
