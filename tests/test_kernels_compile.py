"""The Triton kernels compile for GPUs that are not here, within the shared memory that small GPUs have."""

from pathlib import Path

import pytest

from requirements import require_module

HIDDEN, FEATURE_DIM = 3584, 1280
SHARED_BYTES = 99 * 1024  # per block on compute capability 8.6, 8.9 and 12.0; larger on 8.0 and 9.0


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compile_kernel(kernel, pointers: dict[str, str], constants: dict[str, int], warps: int, stages: int):
    """Compiled for compute capability 9.0; all pointers and strides are multiples of 16."""
    triton = require_module("triton")
    compiler = require_module("triton.compiler")
    target = require_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    arguments = [name for name in kernel.arg_names if name not in constants]
    signature = {name: pointers.get(name, "i32") for name in arguments} | dict.fromkeys(constants, "constexpr")
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in arguments
        if name in pointers or name.endswith("_stride")
    }
    source = compiler.ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    return triton.compile(source, target=target, options=options)


@pytest.mark.parametrize("line", range(4))
def test_pool_linear_gelu_compiles_with_tensor_cores_for_every_line_of_its_table(line):
    require_module("triton")
    from textpro.kernels.pool_linear_gelu import POOL_ROWS, TABLE, pool_linear_gelu_kernel

    tiles = TABLE[line]
    floats = dict.fromkeys(("features", "weight", "bias", "hidden"), "*bf16")
    sizes = {"GROUPS": tiles.groups, "COLUMNS": tiles.columns, "DEPTH": tiles.depth, "POOL_ROWS": POOL_ROWS}
    compiled = compile_kernel(
        pool_linear_gelu_kernel,
        floats | {"offsets": "*i64"},
        sizes | {"FEATURE_DIM": FEATURE_DIM, "HIDDEN": HIDDEN},
        tiles.warps,
        tiles.stages,
    )
    assert compiled.metadata.shared <= SHARED_BYTES
    assert "mma" in compiled.asm["ptx"] and "cp.async" in compiled.asm["ptx"]


@pytest.mark.parametrize("line", range(4))
def test_linear_scatter_compiles_with_tensor_cores_for_every_line_of_its_table(line):
    require_module("triton")
    from textpro.kernels.linear_scatter import TABLE, linear_scatter_kernel

    tiles = TABLE[line]
    floats = dict.fromkeys(("hidden", "weight", "bias", "out"), "*bf16")
    sizes = {"GROUPS": tiles.groups, "COLUMNS": tiles.columns, "DEPTH": tiles.depth}
    compiled = compile_kernel(
        linear_scatter_kernel,
        floats | {"rows": "*i64"},
        sizes | {"DEPTH_TOTAL": HIDDEN, "HIDDEN": HIDDEN},
        tiles.warps,
        tiles.stages,
    )
    assert compiled.metadata.shared <= SHARED_BYTES
    assert "mma" in compiled.asm["ptx"] and "cp.async" in compiled.asm["ptx"]


def test_gather_rows_compiles():
    require_module("triton")
    from textpro.kernels.gather_rows import TOKENS, WIDEST_BLOCK, gather_rows_kernel

    pointers = {"embedding": "*bf16", "out": "*bf16", "token_ids": "*i64", "rows": "*i64"}
    constants = {"HIDDEN": HIDDEN, "TOKENS": TOKENS, "BLOCK": WIDEST_BLOCK}
    assert "st.global" in compile_kernel(gather_rows_kernel, pointers, constants, 4, 3).asm["ptx"]


def test_pool_rows_and_its_gradient_compile():
    require_module("triton")
    from textpro.kernels.pool_rows import POOL_ROWS, WIDEST_BLOCK, pool_rows_kernel, spread_rows_kernel

    sizes = {"FEATURE_DIM": FEATURE_DIM, "BLOCK": WIDEST_BLOCK}
    forward = {"features": "*bf16", "offsets": "*i64", "pooled": "*bf16"}
    pooled = compile_kernel(pool_rows_kernel, forward, sizes | {"POOL_ROWS": POOL_ROWS}, 4, 3)
    spread = compile_kernel(spread_rows_kernel, {"gradient": "*bf16", "offsets": "*i64", "spread": "*bf16"}, sizes, 4, 3)
    assert "ld.global.v" in pooled.asm["ptx"] and "st.global.v" in spread.asm["ptx"]


@pytest.mark.parametrize(("group", "kv_heads", "slot_len"), [(7, 4, 2048), (8, 2, 2304), (7, 2, 32768)])
def test_attention_over_the_slab_compiles_with_tensor_cores(group, kv_heads, slot_len):
    triton = require_module("triton")
    from textpro.kernels import split_attention as kernels

    pointers = {"slots": "*i64", "positions": "*i64", "partial": "*fp32", "logs": "*fp32", "scale_log2": "fp32"}
    size = kernels.split_keys(slot_len)
    splits = triton.cdiv(slot_len, size)
    sizes = {"SLOT_LEN": slot_len, "DIM": 128, "SPLITS": splits, "SPLIT_KEYS": size, "DIM_BLOCK": 128}
    assert splits <= kernels.MOST_SPLITS
    attend = compile_kernel(
        kernels.attend_split_kernel,
        pointers | dict.fromkeys(("query", "keys", "values"), "*bf16"),
        sizes | {"KV_HEADS": kv_heads, "GROUP": group, "GROUP_BLOCK": 16, "KEYS": kernels.KEYS},
        kernels.WARPS,
        kernels.STAGES,
    )
    merge = compile_kernel(
        kernels.merge_splits_kernel,
        pointers | {"out": "*bf16"},
        sizes | {"HEADS": group * kv_heads, "SPLITS_BLOCK": triton.next_power_of_2(splits)},
        kernels.WARPS,
        3,
    )
    assert attend.metadata.shared <= SHARED_BYTES
    assert "mma" in attend.asm["ptx"] and "cp.async.cg" in attend.asm["ptx"]
    assert "ld.global.v4" in merge.asm["ptx"]


def test_store_rows_compiles():
    require_module("triton")
    from textpro.kernels.store_rows import store_rows_kernel

    pointers = dict.fromkeys(("key", "value", "keys", "values"), "*bf16") | {"rows": "*i64"}
    compiled = compile_kernel(store_rows_kernel, pointers, {"DIM": 128, "WIDTH": 512, "BLOCK": 512}, 4, 3)
    assert "st.global.v" in compiled.asm["ptx"]
