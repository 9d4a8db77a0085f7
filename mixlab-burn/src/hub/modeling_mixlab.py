"""A language model of mixlab-burn in PyTorch, for `transformers` with `trust_remote_code=True`.

`config.json` says in `plan` what the model is: its blocks with every option resolved, and each
weight by its name in the weight file. Nothing is worked out a second time here. Shapes are written
with B rows of T tokens, the stream's width D, H heads of width hd, and P tokens before these.

Blocks reach along a row only through `Flow`: what they leave there becomes the `Memory` from which the
next tokens go on, so that generation reads each token once.
"""

import math
from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.utils import ModelOutput


class MixlabConfig(PretrainedConfig):
    """`plan`: the model. `mixlab`: the config that it was made from, as mixlab-burn reads it."""

    model_type = "mixlab"

    def __init__(self, plan=None, mixlab=None, use_cache=True, **kwargs):
        self.plan = plan or {}
        self.mixlab = mixlab or {}
        self.use_cache = use_cache
        super().__init__(**kwargs)


class Memory:
    """What the tokens so far left: their number, the last of them, and tensors for each door."""

    def __init__(self):
        self.tokens = 0
        self.last = None
        self.doors = {}

    def get_seq_length(self, layer=0):
        return self.tokens


class Flow:
    """What flows beside the stream of one pass over B rows of T tokens."""

    def __init__(self, batch, length, plan, memory):
        self.batch, self.length, self.plan = batch, length, plan
        self.before = memory or Memory()
        self.past = self.before.tokens
        self.after = Memory()
        self.after.tokens = self.past + length
        self.block, self.door = 0, 0
        self.x0 = self.norm = None
        self.key_values, self.streams, self.left = {}, {}, []

    def enter(self, block):
        self.block, self.door = block, 0

    def through(self, step):
        """`step` gets what was kept at this door (or None), returns a result and what to keep."""
        name = (self.block, self.door)
        self.door += 1
        result, self.after.doors[name] = step(self.before.doors.get(name))
        return result

    def rms(self, x, scale):
        return rms(x, self.plan["rms_norm_eps"]) * scale

    def shift(self, x):
        """`x` [B, T, C] one token later."""

        def step(kept):
            first = torch.zeros_like(x[:, :1]) if kept is None else kept
            return torch.cat([first, x], 1)[:, :-1], x[:, -1:]

        return self.through(step)

    def rotate(self, x):
        """All of the last axis of `x` [B, H, T, R], turned by position: pairs are neighbours."""
        return rotate(x, torch.arange(self.past, self.past + x.shape[2]), self.plan["rope_base"])

    def extend(self, keys, values):
        """Keys and values [B, H, P+T, hd] of all tokens so far."""

        def step(kept):
            new = (keys, values)
            all = new if kept is None else tuple(torch.cat(pair, 2) for pair in zip(kept, new))
            return all, all

        return self.through(step)

    def scan(self, update, gate):
        """h_t = gate_t h_{t-1} + update_t, all [B, T, ...]: all states."""

        def step(kept):
            h = torch.zeros_like(update[:, 0]) if kept is None else kept
            states = []
            for t in range(update.shape[1]):
                h = gate[:, t] * h + update[:, t]
                states.append(h)
            return torch.stack(states, 1), h

        return self.through(step)

    def moving_average(self, u, gate):
        """h_t = gate h_{t-1} + (1 - gate) u_t."""
        gate = gate.expand(u.shape)
        return self.scan((1 - gate) * u, gate)

    def average(self, key, value, gate):
        """The mean of `value` over a token and those before it, weighted by e^key and by `gate` for
        each step of distance. Sums are relative to the largest weight, which fades as its term does."""
        rate = gate.log()

        def step(kept):
            top, sum, total = kept or (key[:, 0], torch.zeros_like(key[:, 0]), torch.zeros_like(key[:, 0]))
            means = []
            for t in range(key.shape[1]):
                new = torch.maximum(top + rate, key[:, t])
                keep, weight = gate * (top - new).exp(), (key[:, t] - new).exp()
                sum, total, top = keep * sum + weight * value[:, t], keep * total + weight, new
                means.append(sum / total)
            return torch.stack(means, 1), (top, sum, total)

        return self.through(step)


def rms(x, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotate(x, positions, base):
    """Turns the pairs (0, 1), (2, 3) ... of the last axis of `x` [B, H, T, R]."""
    pairs = x.shape[-1] // 2
    rates = torch.exp(torch.arange(pairs, dtype=torch.float64) * (-2 * math.log(base) / x.shape[-1]))
    angles = positions.to("cpu", torch.float64)[:, None] * rates
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def split(x, heads):
    """[B, T, H*hd] to [B, H, T, hd]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(-2)


def attend(q, keys, values, scale=None, causal=True, rate=None):
    """softmax(q k' scale - rate distance) v. The last query is at the last key; a key head serves
    several query heads."""
    group = q.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, 1) for x in (keys, values))
    scores = q @ keys.transpose(-1, -2) * (scale if scale is not None else q.shape[-1] ** -0.5)
    if causal:
        rows, columns = scores.shape[-2:]
        at = torch.arange(columns - rows, columns, device=q.device)[:, None]
        distance = at - torch.arange(columns, device=q.device)
        if rate is not None:
            scores = scores - rate[:, None, None] * distance
        scores = scores.masked_fill(distance < 0, float("-inf"))
    return scores.softmax(-1) @ values


# One function a block: the stream x [B, T, D], its options, its weights by name, the flow.


def plain(x, o, w, flow):
    if "resid_mix" in w:
        x = x * w["resid_mix"][0] + flow.x0 * w["resid_mix"][1]
    if not o["skip_attention"]:
        n = flow.rms(x, w["norm_scale"])
        if o["parallel"]:
            flow.norm = n
        q, turned = split(n @ w["wq"], o["heads"]), o["rope_dims"]
        turn = lambda x: torch.cat([flow.rotate(x[..., :turned]), x[..., turned:]], -1)
        if o["kv_source"] is None:
            q = turn(q)
            keys, values = turn(split(n @ w["wk"], o["kv_heads"])), split(n @ w["wv"], o["kv_heads"])
            keys, values = flow.key_values[flow.block] = flow.extend(keys, values)
        else:
            keys, values = flow.key_values[o["kv_source"]]
        if "qk_gain" in w:
            q = q * w["qk_gain"][:, None, None]
        y = attend(q, keys, values)
        if o["xsa"]:
            v = values[:, :, -flow.length :].repeat_interleave(q.shape[1] // values.shape[1], 1)
            y = y - v * (y * v).sum(-1, keepdim=True) / ((v * v).sum(-1, keepdim=True) + 1e-8)
        x = x + merge(y) @ w["wo"] * w.get("attn_scale", 1)
    return x + tail(x, w) * w.get("mlp_scale", 1)


def tail(x, w):
    return F.silu(x @ w["ff1"]) @ w["ff2"]


def swiglu(x, o, w, flow):
    n = flow.rms(x, w["ffn_norm_scale"]) if "ffn_norm_scale" in w else flow.norm
    return x + (torch.sigmoid(n @ w["w_gate"]) * (n @ w["w_up"])) @ w["w_down"] * w.get("mlp_scale", 1)


def mlp(x, o, w, flow):
    act = {
        "silu": F.silu,
        "relu": F.relu,
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "leaky_relu_sq": lambda x: F.leaky_relu(x, o["slope"]).square(),
    }[o["activation"]]
    return x + act(flow.rms(x, w["ffn_norm_scale"]) @ w["w_up"]) @ w["w_down"]


def mamba(x, o, w, flow):
    z, u = (x @ w["in_proj"]).chunk(2, -1)
    h = flow.moving_average(u @ w["conv_w"], w["scan_decay"].sigmoid())
    return x + (F.silu(z) * h) @ w["out_proj"]


def mamba3(x, o, w, flow):
    n = flow.rms(x, w["norm_scale"])
    u = (n @ w["w_ssm"]) * torch.sigmoid(n @ w["w_dt"])
    h = flow.moving_average(u, w["scan_decay"].sigmoid())
    return x + (F.silu(n @ w["w_gate"]) * h) @ w["wo"]


def retnet(x, o, w, flow):
    n = flow.rms(x, w["norm_scale"])
    q, keys, values = (split(n @ w[name], o["heads"]) for name in ("wq", "wk", "wv"))
    y = attend(q, *flow.extend(keys, values), rate=w["decay"].sigmoid())
    x = x + merge(y) @ w["wo"]
    return x + tail(x, w)


def rwkv(x, o, w, flow):
    def blend(x, mu):
        m = w[mu].sigmoid()
        return x * (1 - m) + flow.shift(x) * m

    s = blend(x, "mu")
    gate = torch.sigmoid(torch.exp(-torch.exp(w["w_decay"])))
    mean = flow.average(s @ w["wk"], s @ w["wv"], gate)
    x = x + (torch.sigmoid(s @ w["wr"]) * mean) @ w["wo"]
    s = blend(x, "mu2")
    return x + torch.sigmoid(s @ w["wr2"]) * (F.relu(s @ w["wk2"]).square() @ w["wv2"])


def token_blend(x, o, w, flow):
    g = torch.sigmoid(x @ w["w_gate"])
    return x * (1 - g) + g * flow.shift(x)


def perceiver(x, o, w, flow):
    def attention(a, b, name, turn=lambda x: x, causal=False):
        q, k, v = (split(t @ w[f"{m}_{name}"], o["heads"]) for t, m in ((a, "wq"), (b, "wk"), (b, "wv")))
        return merge(attend(turn(q), turn(k), v, causal=causal)) @ w[f"wo_{name}"]

    l = w["latent_init"].expand(x.shape[0], -1, -1)
    l = l + attention(l, x, "cross")
    l = l + attention(l, l, "self", flow.rotate, causal=True)
    x = x + attention(x, l, "broad")
    return x + tail(x, w)


def cross_attention(x, o, w, flow):
    source = {"x": x, "x0": flow.x0}.get(o["source"])
    source = flow.streams[o["source"]] if source is None else source
    q = split(flow.rms(x, w["norm_scale"]) @ w["wq"], o["heads"])
    keys, values = split(source @ w["wk"], o["heads"]), split(source @ w["wv"], o["heads"])
    x = x + merge(attend(q, keys, values, causal=False)) @ w["wo"]
    return x + tail(x, w)


def custom(x, o, w, flow):
    """A block that the config programs: operations on numbered slots. The stream is [B*T, D]; a weight
    of one axis is a row."""
    slots = {0: x.flatten(0, 1)}
    for slot, name in enumerate(o["slots"], 1):
        slots[slot] = w[name] if w[name].dim() > 1 else w[name][None]
    sizes = {"B": flow.batch, "T": flow.length, "BT": flow.batch * flow.length, "T/2": flow.length // 2}
    for op in o["ops"]:
        number = lambda n: sizes[n] if isinstance(n, str) else n
        read = lambda v: [number(n) for n in v] if isinstance(v, list) else number(v)
        params = {name: read(value) for name, value in op["params"].items()}
        results = OPERATIONS[op["op"]]([slots[i] for i in op["inputs"]], params, Door(flow, op["remembers"]))
        results = results if isinstance(results, tuple) else (results,)
        slots.update(zip(op["outputs"], results))
    return slots[o["result"]].view_as(x)


class Door:
    """Along a row, for an operation: through the memory if it remembers, else from nothing."""

    def __init__(self, flow, remembers):
        self.flow, self.remembers = flow, remembers
        self.past = flow.past if remembers else 0

    def through(self, step):
        return self.flow.through(step) if self.remembers else step(None)[0]

    def scan(self, update, gate):
        flow = self.flow if self.remembers else Flow(0, 0, self.flow.plan, None)
        return flow.scan(update, gate)

    def view(self, x, p, names, inferred):
        """`x` with the sizes that parameters name, or else those that are inferred."""
        return x.reshape([p.get(name, n) for name, n in zip(names, inferred)])


def op_matmul(i, p, door):
    a, b = i
    left = a[None] if a.dim() == 1 else a
    right = b[:, None] if b.dim() == 1 else b
    y = left @ right
    if a.dim() == 1 and b.dim() > 1:
        y = y.squeeze(-2)
    return y.squeeze(-1) if b.dim() == 1 else y


def op_slice(i, p, door):
    axis, length = p["axis"], i[0].shape[p["axis"]]
    bound = lambda n: min(max(n + length if n < 0 else n, 0), length)
    at = torch.arange(bound(p["start"]), bound(p.get("end", length)), p["step"], device=i[0].device)
    return i[0].index_select(axis, at)


def op_embed(i, p, door):
    table, ids = i
    at = ids.long()
    at = torch.where(at < 0, at + len(table), at).clamp(0, len(table) - 1)
    return table[at.flatten()].reshape(*ids.shape, *table.shape[1:])


def op_layernorm(i, p, door):
    y = i[0] - i[0].mean(-1, keepdim=True)
    y = y / (y.square().mean(-1, keepdim=True) + p["eps"]).sqrt()
    y = y * i[1] if len(i) > 1 else y
    return y + i[2] if len(i) > 2 else y


def op_causal_mask(i, p, door):
    rows, columns = i[0].shape[-2:]
    future = torch.ones(rows, columns, dtype=torch.bool, device=i[0].device).triu(1)
    return i[0].masked_fill(future, -1e9)


def op_attention(i, p, door):
    q, keys, values = i

    def step(kept):
        all = (keys, values) if kept is None else tuple(torch.cat(pair, 2) for pair in zip(kept, (keys, values)))
        return attend(q, *all, scale=p.get("scale")), all

    return door.through(step)


def op_rope(i, p, door):
    length, width = i[0].shape[2:]
    turned = p.get("rope_dims", 0)
    turned = turned if 0 < turned < width else width
    if len(i) > 2:
        positions = i[2].flatten().long()
    else:
        positions = p["start"] + p["step"] * (torch.arange(length) + door.past)
    return tuple(torch.cat([rotate(x[..., :turned], positions, p["base"]), x[..., turned:]], -1) for x in i[:2])


def op_conv1d(i, p, door):
    a, taps = i
    flow, count = door.flow, len(taps)
    rows = a.reshape(flow.batch, flow.length, -1) if a.dim() == 2 else a.flatten(0, -3)

    def step(kept):
        first = rows.new_zeros(len(rows), count - 1, rows.shape[-1]) if kept is None else kept
        all = torch.cat([first, rows], 1)
        y = sum(all[:, k : k + rows.shape[1]] * taps[k] for k in range(count))
        return y.reshape(a.shape), all[:, all.shape[1] - (count - 1) :]

    return door.through(step)


def op_scan(i, p, door):
    u = door.view(i[0], p, "BTD", (door.flow.batch, door.flow.length, i[0].shape[-1]))
    gate = i[1].flatten().sigmoid().expand(u.shape)
    return door.scan((1 - gate) * u, gate).flatten(0, 1)


def op_scan_tv(i, p, door):
    u = door.view(i[0], p, "BTD", (door.flow.batch, door.flow.length, i[0].shape[-1]))
    gate = i[1].reshape(u.shape)
    return door.scan((1 - gate) * u, gate).flatten(0, 1)


def op_matrix_scan(i, p, door):
    inferred = (door.flow.batch, door.flow.length, *i[0].shape[-2:])
    update = door.view(i[0], p, ("B", "T", "Da", "Db"), inferred)
    return door.scan(update, i[1].reshape(*update.shape[:3], 1)).flatten(0, 1)


def op_cumsum(i, p, door):
    def step(kept):
        sums = i[0].cumsum(p["axis"]) + (0 if kept is None else kept)
        return sums, sums.narrow(p["axis"], sums.shape[p["axis"]] - 1, 1)

    return door.through(step)


def op_reshape(i, p, door):
    return i[0].reshape(p["shape"] if "shape" in p else p["axes"])


OPERATIONS = {
    "matmul": op_matmul,
    "add": lambda i, p, d: i[0] + i[1],
    "sub": lambda i, p, d: i[0] - i[1],
    "mul": lambda i, p, d: i[0] * i[1],
    "div": lambda i, p, d: i[0] / i[1],
    "scalar_mul": lambda i, p, d: i[0] * p["scalar"],
    "neg": lambda i, p, d: -i[0],
    "square": lambda i, p, d: i[0].square(),
    "sqrt": lambda i, p, d: i[0].sqrt(),
    "rsqrt": lambda i, p, d: i[0].rsqrt(),
    "pow": lambda i, p, d: i[0].pow(p["exponent"]),
    "exp": lambda i, p, d: i[0].exp(),
    "log": lambda i, p, d: i[0].log(),
    "abs": lambda i, p, d: i[0].abs(),
    "clamp": lambda i, p, d: i[0].clamp(p.get("min"), p.get("max")),
    "tanh": lambda i, p, d: i[0].tanh(),
    "sigmoid": lambda i, p, d: i[0].sigmoid(),
    "relu": lambda i, p, d: F.relu(i[0]),
    "silu": lambda i, p, d: F.silu(i[0]),
    "gelu": lambda i, p, d: F.gelu(i[0], approximate="tanh"),
    "softplus": lambda i, p, d: -F.logsigmoid(-i[0]),
    "maximum": lambda i, p, d: torch.maximum(i[0], i[1]),
    "minimum": lambda i, p, d: torch.minimum(i[0], i[1]),
    "greater": lambda i, p, d: (i[0] > i[1]).to(i[0].dtype),
    "greater_equal": lambda i, p, d: (i[0] >= i[1]).to(i[0].dtype),
    "less": lambda i, p, d: (i[0] < i[1]).to(i[0].dtype),
    "less_equal": lambda i, p, d: (i[0] <= i[1]).to(i[0].dtype),
    "equal": lambda i, p, d: (i[0] == i[1]).to(i[0].dtype),
    "where": lambda i, p, d: torch.where(i[0] != 0, i[1], i[2]),
    "dropout": lambda i, p, d: i[0],
    "sum": lambda i, p, d: i[0].sum(p["axis"], keepdim=True),
    "mean": lambda i, p, d: i[0].mean(p["axis"], keepdim=True),
    "max": lambda i, p, d: i[0].amax(p["axis"], keepdim=True),
    "min": lambda i, p, d: i[0].amin(p["axis"], keepdim=True),
    "cumsum": op_cumsum,
    "softmax": lambda i, p, d: i[0].softmax(p["axis"]),
    "rmsnorm": lambda i, p, d: rms(i[0], p["eps"]) * i[1],
    "layernorm": op_layernorm,
    "reshape": op_reshape,
    "transpose": lambda i, p, d: i[0].permute(p["axes"]),
    "slice": op_slice,
    "concat": lambda i, p, d: torch.cat(i, p["axis"]),
    "embed": op_embed,
    "arange": lambda i, p, d: torch.arange(p["start"], p["end"], p["step"], dtype=torch.float32, device=d.flow.x0.device),
    "full": lambda i, p, d: torch.full(p["shape"], p["value"], device=d.flow.x0.device),
    "outer": lambda i, p, d: i[0][..., :, None] * i[1][..., None, :],
    "causal_mask": op_causal_mask,
    "attention": op_attention,
    "rope": op_rope,
    "conv1d": op_conv1d,
    "scan": op_scan,
    "scan_tv": op_scan_tv,
    "matrix_scan": op_matrix_scan,
}

BLOCKS = {
    block.__name__: block
    for block in (plain, swiglu, mlp, mamba, mamba3, retnet, rwkv, token_blend, perceiver, cross_attention, custom)
}


@dataclass
class MixlabOutput(ModelOutput):
    """Mean loss of `labels` if there are some, logits [B, T, V], the memory to go on from."""

    loss: Optional[torch.FloatTensor] = None
    logits: Optional[torch.FloatTensor] = None
    memory: Optional[Memory] = None


class MixlabForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = MixlabConfig
    base_model_prefix = ""
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        for name, shape in config.plan["weights"]:
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.post_init()

    def _init_weights(self, module):
        """Weights come from the file."""

    def _supports_default_dynamic_cache(self=None):
        """Its memory is its own."""
        return False

    def get_input_embeddings(self):
        return None

    def get_output_embeddings(self):
        return None

    def weights(self, names):
        return {short: getattr(self, name) for short, name in names.items()}

    def forward(self, input_ids, attention_mask=None, labels=None, memory=None, use_cache=None, length=None, **kwargs):
        """`length`: how many tokens of each row are meant; what comes after them fills the row."""
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("rows have no padding in this model: give rows of one length, or one at a time")
        plan = self.config.plan
        if memory is not None and not plan["streaming"]:
            raise ValueError("a block of this model needs whole rows: give them again, without `memory`")
        flow = Flow(*input_ids.shape, plan, memory)
        w = self.weights(plan["globals"])
        flow.x0 = x = self.embed(input_ids, w, flow)
        for index, options in enumerate(plan["blocks"]):
            flow.enter(index)
            if options["skip"]:
                x = x + flow.left[options["skip"]["from"]] * getattr(self, options["skip"]["scale"])
            x = BLOCKS[options["type"]](x, options, self.weights(options["weights"]), flow)
            if options["stream"]:
                flow.streams[options["stream"]] = x
            flow.left.append(x)
        logits = flow.rms(x, w["final_norm"]) @ (w["head"] if "head" in w else w["embed"].T)
        if plan["softcap"]:
            logits = plan["softcap"] * torch.tanh(logits / plan["softcap"])
        logits, loss = logits[:, :length], None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        keeps = plan["streaming"] and (self.config.use_cache if use_cache is None else use_cache)
        flow.after.last = input_ids[:, -1:]
        return MixlabOutput(loss=loss, logits=logits, memory=flow.after if keeps else None)

    def embed(self, ids, w, flow):
        x = w["embed"][ids]
        if "bigram_table" not in w:
            return x
        # The first token of a row has a row of the table of its own.
        first = torch.full_like(ids[:, :1], -1) if flow.before.last is None else flow.before.last
        before, last = torch.cat([first, ids], 1)[:, :-1], self.config.plan["bigram_vocab"] - 1
        pairs = torch.where(before < 0, last, ((36313 * ids) ^ (27191 * before)) % last)
        e = w["bigram_table"][pairs]
        e = e @ w["bigram_proj"] if "bigram_proj" in w else e
        return x + e * w["bigram_scale"]

    # `generate` hands the memory from pass to pass.

    def generate(self, inputs=None, generation_config=None, **kwargs):
        beams = kwargs.get("num_beams") or getattr(generation_config or self.generation_config, "num_beams", 1)
        if (beams or 1) > 1:
            # Beams change places, and memories would not follow.
            kwargs["use_cache"] = False
        return super().generate(inputs, generation_config, **kwargs)

    def prepare_inputs_for_generation(self, input_ids, memory=None, attention_mask=None, use_cache=None, **kwargs):
        ids = input_ids if memory is None else input_ids[:, memory.tokens :]
        inputs = {"memory": memory, "attention_mask": attention_mask, "use_cache": use_cache}
        if self.config.plan["streaming"]:
            return {"input_ids": ids, **inputs}
        # A block needs whole rows, of the length of training: zeros fill them, as in mixlab.
        room = max(0, self.config.max_position_embeddings - ids.shape[1])
        return {"input_ids": F.pad(ids, (0, room)), "length": ids.shape[1], **inputs}

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        model_kwargs["memory"] = outputs.memory
        return model_kwargs
