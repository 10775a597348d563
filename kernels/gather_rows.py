"""Third launch of `fuse_prosody`: out[rows[i]] = embedding[token_ids[i]]. A copy, exact in every dtype. An
id outside the vocabulary gives a row of NaN: a device cannot raise, and a wrong row should be seen, not
read from elsewhere."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton
import triton.language as tl

TOKENS = 4
WIDEST_BLOCK = 1024


@triton.jit(do_not_specialize=["n_tokens", "vocabulary", "n_rows"])
def gather_rows_kernel(
    embedding,  # [vocabulary, HIDDEN]
    token_ids,  # [n_tokens]
    rows,  # [n_tokens]
    out,  # [n_rows, HIDDEN]
    n_tokens,
    vocabulary,
    n_rows,
    embedding_stride,
    out_stride,
    HIDDEN: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)  # [TOKENS]
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    has_column = (column < HIDDEN)[None, :]
    token_id = tl.load(token_ids + token, mask=token < n_tokens, other=-1).to(tl.int64)
    row = tl.load(rows + token, mask=token < n_tokens, other=-1).to(tl.int64)
    known = ((token_id >= 0) & (token_id < vocabulary))[:, None]
    present = ((row >= 0) & (row < n_rows))[:, None]
    source = embedding + token_id[:, None] * embedding_stride + column[None, :]
    vectors = tl.load(source, mask=known & has_column, other=float("nan"))  # [TOKENS, BLOCK]
    tl.store(out + row[:, None] * out_stride + column[None, :], vectors, mask=present & has_column)


def gather_rows(embedding: torch.Tensor, token_ids: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    """One launch: rows int [n_tokens] of `out` [n_rows, H] become rows token_ids int [n_tokens] of
    [vocabulary, H].

    The last dimension of every argument has stride 1; rows may be strided. Other rows of `out` are not
    touched. Nothing is checked here and the device is not waited for: `fuse_prosody` checks. No tokens: no
    launch.
    """
    n_tokens = token_ids.shape[0]
    if n_tokens == 0:
        return
    vocabulary, columns = embedding.shape
    block = min(WIDEST_BLOCK, triton.next_power_of_2(columns))
    gather_rows_kernel[(triton.cdiv(n_tokens, TOKENS), triton.cdiv(columns, block))](
        embedding,
        token_ids,
        rows,
        out,
        n_tokens,
        vocabulary,
        out.shape[0],
        embedding.stride(0),
        out.stride(0),
        HIDDEN=columns,
        TOKENS=TOKENS,
        BLOCK=block,
        num_warps=4,
        enable_fp_fusion=True,
    )
