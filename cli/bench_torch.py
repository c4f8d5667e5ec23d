"""The other side of `taut bench --compare-torch`: an architecture of Taut's in plain PyTorch, from the same weights, over the same text.

    python3 bench_torch.py ARCH.json WEIGHTS.safetensors TEXT MODE THREADS BATCH [STEPS]

MODE: eager, compiled or graphed (with CUDA graphs), then -f32 or -bf16 (autocast), or -decode. With STEPS it trains so many and ends. Without, it obeys lines on stdin and answers each with
one line of JSON: "steps N", "product", "prefill L N", "decode L N", "memory"; at the end of stdin it leaves. The first answer, {"ready": …}, comes unasked.
"""
import json
import math
import os
import sys
import time

ARCH, WEIGHTS, TEXT, MODE, THREADS, BATCH = sys.argv[1:7]
os.environ["OMP_NUM_THREADS"] = THREADS
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(THREADS))
DEVICE = os.environ.get("TAUT_TORCH_DEVICE", "cpu") # "cuda": everything there
torch.set_default_device(DEVICE)
LR, AUX, EPS, CHUNK, ROOM = 1e-3, 0.01, 1e-5, 64, 64
TYPES = {"F32": torch.float32, "F64": torch.float64}


def say(**answer):
    print(json.dumps(answer), flush=True)


def tensors(path):
    """name -> tensor of a safetensors file: a length, a JSON header, then the numbers."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: torch.frombuffer(bytearray(data[slice(*h["data_offsets"])]), dtype=TYPES[h["dtype"]], device="cpu").reshape(h["shape"]).to(DEVICE) for name, h in header.items()}


class Weights:
    """Tensors below a prefix, found by how their names end."""

    def __init__(self, all, prefix):
        self.all = {k[len(prefix):]: v for k, v in all.items() if k.startswith(prefix)}

    def one(self, end):
        found = [v for k, v in self.all.items() if k == end or k.endswith("." + end)]
        assert len(found) == 1, end
        return nn.Parameter(found[0].clone())

    def rows(self, *ends):
        return nn.Parameter(torch.cat([self.one(e).data for e in ends]).contiguous())


class Attention(nn.Module):
    def __init__(self, w, width, p):
        super().__init__()
        self.h, self.g, self.k = p["heads"], p["kv_heads"], p["head_dim"]
        self.qkv, self.o = w.rows("q_proj.weight", "k_proj.weight", "v_proj.weight"), w.one("o_proj.weight")

    def forward(self, x, turn, cache=None, at=None, mask=None):
        b, t, _ = x.shape
        h, g, k = self.h, self.g, self.k
        heads = F.linear(x, self.qkv).view(b, t, h + 2 * g, k).transpose(1, 2)
        q, key, v = heads.split([h, g, g], 1)
        cos, sin = turn[0].to(q.dtype), turn[1].to(q.dtype)

        def rotated(z):
            first, second = z.chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        q, key = rotated(q), rotated(key)
        if cache is not None and isinstance(at, int):
            cache[0][:, :, at:at + t], cache[1][:, :, at:at + t] = key, v
            key, v = cache[0][:, :, :at + t], cache[1][:, :, :at + t]
        elif cache is not None:
            key, v = cache[0].index_copy_(2, at, key), cache[1].index_copy_(2, at, v)
        if t == 1: # one token: the queries of a group are the rows of one product
            y = F.scaled_dot_product_attention(q.reshape(b, g, h // g, k), key, v, attn_mask=mask).reshape(b, h, 1, k)
        else:
            if g != h:
                key, v = key.repeat_interleave(h // g, 1), v.repeat_interleave(h // g, 1)
            y = F.scaled_dot_product_attention(q, key, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(b, t, h * k), self.o)


class Mamba2(nn.Module):
    def __init__(self, w, width, p):
        super().__init__()
        self.n, self.p = p["state"], p["head_dim"]
        self.inner = p.get("expand", 2) * width
        self.h, self.taps = self.inner // self.p, p.get("conv", 4)
        assert p.get("groups", 1) == 1
        self.inp, self.out, self.norm = w.one("in_proj.weight"), w.one("out_proj.weight"), w.one("norm.weight")
        self.conv, self.conv_bias = w.one("conv1d.weight"), w.one("conv1d.bias")
        self.a_log, self.d, self.dt_bias = w.one("A_log"), w.one("D"), w.one("dt_bias")

    def forward(self, x, *_):
        b, t, _ = x.shape
        h, p, n, q = self.h, self.p, self.n, min(CHUNK, x.shape[1])
        z, rest, dt = F.linear(x, self.inp).split([self.inner, self.inner + 2 * n, h], -1)
        rest = F.conv1d(F.pad(rest.transpose(1, 2), (self.taps - 1, 0)), self.conv.view(-1, 1, self.taps), self.conv_bias, groups=rest.shape[-1])
        x, B, C = F.silu(rest.transpose(1, 2)).split([self.inner, n, n], -1)
        x, dt = x.view(b, t, h, p), F.softplus(dt.float() + self.dt_bias)
        y = self.scan(x * dt[..., None].to(x.dtype), dt * -self.a_log.float().exp(), B, C, q) + x * self.d[:, None].to(x.dtype)
        y = y.reshape(b, t, self.inner) * F.silu(z)
        return F.linear(F.rms_norm(y.float(), (self.inner,), self.norm, EPS).to(y.dtype), self.out)

    @staticmethod
    def scan(x, a, B, C, q):
        """Chunks of q: products within, a decayed state from one to the next."""
        b, t, h, p = x.shape
        c, n = t // q, B.shape[-1]
        x = x.view(b, c, q, h, p).permute(0, 1, 3, 2, 4)
        sums = a.view(b, c, q, h).permute(0, 1, 3, 2).cumsum(-1)
        B, C = B.view(b, c, 1, q, n), C.view(b, c, 1, q, n)
        lower = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()
        decay = (sums[..., :, None] - sums[..., None, :]).masked_fill(~lower, -math.inf).exp()
        y = ((C @ B.transpose(-1, -2)) * decay).to(x.dtype) @ x
        each = B.transpose(-1, -2) @ (x * (sums[..., -1:] - sums).exp()[..., None].to(x.dtype))
        whole, state, before = sums[..., -1].exp()[..., None, None].to(x.dtype), torch.zeros_like(each[:, 0]), []
        for i in range(c):
            before.append(state)
            state = state * whole[:, i] + each[:, i]
        y = y + (C @ torch.stack(before, 1)) * sums.exp()[..., None].to(x.dtype)
        return y.permute(0, 1, 3, 2, 4).reshape(b, t, h, p)


class SwiGLU(nn.Module):
    def __init__(self, w, width, p):
        super().__init__()
        self.gate_up, self.down = w.rows("gate_proj.weight", "up_proj.weight"), w.one("down_proj.weight")

    def forward(self, x):
        gate, up = F.linear(x, self.gate_up).chunk(2, -1)
        return F.linear(F.silu(gate) * up, self.down)


class MoE(nn.Module):
    def __init__(self, w, width, p):
        super().__init__()
        self.e, self.k = p["experts"], p["active"]
        self.router = w.one("gate.weight")
        gate, up, down = (w.one("experts." + name).data.view(self.e, -1, d) for name, d in (("gate_proj", width), ("up_proj", width), ("down_proj", p["hidden"])))
        self.gate_up = nn.ParameterList(nn.Parameter(torch.cat([gate[i], up[i]])) for i in range(self.e))
        self.down = nn.ParameterList(nn.Parameter(down[i].clone()) for i in range(self.e))
        self.aux = None

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        prob = F.linear(x, self.router).float().softmax(-1)
        weight, chosen = prob.topk(self.k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        flat = chosen.reshape(-1)
        count = torch.bincount(flat, minlength=self.e)
        self.aux = self.e * (count.float() / x.shape[0] * prob.mean(0)).sum() / self.k
        order = flat.argsort(stable=True)
        token = order // self.k
        out = []
        for rows, gate_up, down in zip(x[token].split(count.tolist()), self.gate_up, self.down):
            gate, up = F.linear(rows, gate_up).chunk(2, -1)
            out.append(F.linear(F.silu(gate) * up, down))
        out = torch.cat(out)
        out = out * weight.reshape(-1)[order, None].to(out.dtype)
        return torch.zeros(x.shape, dtype=out.dtype).index_add_(0, token, out).view(shape)


PARTS = {"attention": Attention, "mamba2": Mamba2, "swiglu": SwiGLU, "moe": MoE}


class Layer(nn.Module):
    def __init__(self, w, width, p):
        super().__init__()
        self.norm1, self.norm2 = w.one("input_layernorm.weight"), w.one("post_attention_layernorm.weight")
        self.mixer = PARTS[p["mixer"]["type"]](w, width, p["mixer"])
        self.ffn = PARTS[p["ffn"]["type"]](w, width, p["ffn"])

    def forward(self, x, *more):
        x = x + self.mixer(F.rms_norm(x, x.shape[-1:], self.norm1, EPS), *more)
        return x + self.ffn(F.rms_norm(x, x.shape[-1:], self.norm2, EPS))


class LM(nn.Module):
    def __init__(self, arch, all, room):
        super().__init__()
        width = arch["width"]
        top = Weights(all, "")
        self.table, self.norm = top.one("model.embed_tokens.weight"), top.one("model.norm.weight")
        self.head = self.table if arch["tie_embeddings"] else top.one("lm_head.weight")
        self.layers = nn.ModuleList(Layer(Weights(all, f"model.layers.{i}."), width, p) for i, p in enumerate(arch["layers"]))
        k = next(p["mixer"]["head_dim"] for p in arch["layers"] if p["mixer"]["type"] == "attention")
        angle = torch.arange(room)[:, None] * arch.get("rope_theta", 10000.0) ** (-torch.arange(0, k, 2) / k)
        self.register_buffer("cos", angle.cos(), False)
        self.register_buffer("sin", angle.sin(), False)

    def forward(self, tokens, targets):
        """Cross-entropy, and what joins the gradients."""
        x, t = F.embedding(tokens, self.table), tokens.shape[1]
        for layer in self.layers:
            x = layer(x, (self.cos[:t], self.sin[:t]))
        logits = F.linear(F.rms_norm(x, x.shape[-1:], self.norm, EPS), self.head)
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))
        aux = sum(m.aux for m in self.modules() if isinstance(m, MoE))
        return loss, loss + AUX * aux

    def caches(self, room):
        return [tuple(torch.zeros(1, l.mixer.g, room, l.mixer.k) for _ in range(2)) for l in self.layers]

    def token(self, tokens, caches, at, mask=None):
        """tokens [1,T] from position at: an int, or one in a tensor (then the caches are used whole, under the mask)."""
        x, t = F.embedding(tokens, self.table), tokens.shape[1]
        turn = (self.cos[at:at + t], self.sin[at:at + t]) if isinstance(at, int) else (self.cos[at], self.sin[at])
        for layer, cache in zip(self.layers, caches):
            x = layer(x, turn, cache, at, mask)
        return F.linear(F.rms_norm(x[:, -1:], x.shape[-1:], self.norm, EPS), self.head)


class Training:
    def __init__(self, arch):
        self.model = LM(arch, tensors(WEIGHTS), arch["context"])
        self.run = self.model
        if MODE.startswith("compiled"):
            self.run = torch.compile(self.model)
        elif MODE.startswith("graphed"):
            self.run = torch.compile(self.model, mode="reduce-overhead")
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
        self.text = torch.frombuffer(bytearray(open(TEXT, "rb").read()), dtype=torch.uint8, device="cpu").long().to(DEVICE)
        self.b, self.t, self.at = int(BATCH), arch["context"], 0

    def step(self):
        n = self.b * self.t
        first = self.at * n % (len(self.text) - n)
        x, y = self.text[first:first + n].view(self.b, self.t), self.text[first + 1:first + n + 1].view(self.b, self.t)
        self.at += 1
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MODE.endswith("bf16")):
            loss, total = self.run(x, y)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        return loss.item()

    def steps(self, n):
        ms, losses = [], []
        for _ in range(n):
            at = time.perf_counter()
            losses.append(self.step())
            ms.append((time.perf_counter() - at) * 1e3)
        return {"ms": ms, "losses": losses}


class Decoding:
    def __init__(self, arch, room):
        self.model = LM(arch, tensors(WEIGHTS), room + ROOM).eval()
        self.compiled, self.ready = MODE.startswith("compiled"), {}

    def prefill(self, context, n):
        ms = []
        tokens, caches = torch.arange(context)[None] % 251, self.model.caches(context + ROOM)
        run = torch.compile(lambda x, c: self.model.token(x, c, 0)) if self.compiled else lambda x, c: self.model.token(x, c, 0)
        run(tokens, caches).argmax().item()
        for _ in range(n):
            at = time.perf_counter()
            run(tokens, caches).argmax().item()
            ms.append((time.perf_counter() - at) * 1e3)
        return {"ms": ms}

    def one(self, context):
        """token -> the next one, the cache `context` long; each call one position further, round and round."""
        room = context + ROOM
        caches = [tuple(c.normal_() for c in pair) for pair in self.model.caches(room)]
        if not self.compiled:
            return lambda tok, i: self.model.token(tok, caches, context + i % ROOM).argmax(-1).view(1, 1)
        places = torch.arange(room)
        run = torch.compile(lambda tok, at: self.model.token(tok, caches, at, (places <= at)[None, None, None]).argmax(-1).view(1, 1))
        return lambda tok, i: run(tok, torch.tensor([context + i % ROOM]))

    def decode(self, context, n):
        if context not in self.ready:
            self.ready[context] = self.one(context)
        run, tok, ms = self.ready[context], torch.zeros(1, 1, dtype=torch.long), []
        for i in range(n + 2):
            at = time.perf_counter()
            tok = run(tok, i)
            tok.item()
            ms.append((time.perf_counter() - at) * 1e3)
        return {"ms": ms[2:]}


def product():
    """flop/s of x w', 4096 x 512 x 1408."""
    dtype = torch.bfloat16 if MODE.endswith("bf16") else torch.float32
    x, w = torch.randn(4096, 512).to(dtype), torch.randn(1408, 512).to(dtype)
    best = math.inf
    for _ in range(12):
        at = time.perf_counter()
        F.linear(x, w)
        best = min(best, time.perf_counter() - at)
    return {"flops": 2 * 4096 * 512 * 1408 / best}


def memory():
    """Most that this process has held, of its own."""
    with open("/proc/self/status") as f:
        return {"bytes": next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))}


def main():
    arch = json.load(open(ARCH))
    if MODE.endswith("decode"):
        work = Decoding(arch, 4096)
    else:
        work = Training(arch)
    if len(sys.argv) > 7:
        say(**work.steps(int(sys.argv[7])), **memory())
        return
    say(ready=True, torch=torch.__version__)
    for line in sys.stdin:
        word, *numbers = line.split()
        numbers = [int(x) for x in numbers]
        with torch.inference_mode(MODE.endswith("decode")):
            say(**{"product": product, "memory": memory, "steps": getattr(work, "steps", None), "prefill": getattr(work, "prefill", None),
                   "decode": getattr(work, "decode", None)}[word](*numbers))


main()
