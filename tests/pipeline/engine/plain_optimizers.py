"""The slow, obvious twins of LAMB and Muon: whole parameters, in fp64, a formula a line."""

import torch


def twin_of(config, network):
    """What updates `network` in place as a run file's optimizer does; it has `zero_grad` and `step`."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, **adam)
    if config.name == "lamb":
        return PlainLamb(groups, adam)
    hidden = [p for name, p in trained.items() if "encoder.layer" in name and p.ndim == 2]
    for group in groups:
        group["params"] = [p for p in group["params"] if not any(p is matrix for matrix in hidden)]
    return PlainMuon(hidden, config, torch.optim.AdamW(groups, **adam))


class PlainLamb(torch.optim.Optimizer):
    """Algorithm 2 of You et al. 2020 with φ(z) = z; vectors have ratio 1."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                x, g = p.double(), p.grad.double()
                m, v, t = self.state.setdefault(p, {"kept": (0.0, 0.0, 0)})["kept"]
                m, v, t = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2, t + 1
                self.state[p]["kept"] = m, v, t
                r = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + group["eps"])
                update = r + group["weight_decay"] * x
                ratio = x.norm() / update.norm() if p.ndim > 1 else 1.0
                p.copy_(x - group["lr"] * ratio * update)


class PlainMuon:
    """Jordan et al. 2024, whose iteration is a polynomial of singular values; AdamW for all but `hidden`."""

    def __init__(self, hidden, config, adamw):
        self.hidden, self.config, self.adamw = hidden, config, adamw
        self.momenta = [0.0] * len(hidden)

    def zero_grad(self):
        self.adamw.zero_grad()
        for p in self.hidden:
            p.grad = None

    @torch.no_grad()
    def step(self):
        self.adamw.step()
        beta, lr, decay = self.config.momentum, self.config.muon_lr, self.config.weight_decay
        for number, p in enumerate(self.hidden):
            g = p.grad.double()
            self.momenta[number] = beta * self.momenta[number] + (1 - beta) * g
            ahead = beta * self.momenta[number] + (1 - beta) * g
            scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            p.copy_(p.double() * (1 - lr * decay) - lr * scale * orthogonalized(ahead))


def orthogonalized(matrix):
    """U f(S) Vᵀ for a matrix U S Vᵀ of Frobenius norm 1, f being five times the quintic."""
    u, s, v = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v
