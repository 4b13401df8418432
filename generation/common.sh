# shellcheck shell=bash
# What the launch scripts share: settings that both have, the launch line, its end. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# --- settings, each overridable from the environment -------------------------------------------------

CONFIG=${CONFIG:-$root/MAGI-1/example/tiny/tiny_config.json} # the generator
PIPELINE=${PIPELINE:-}                 # or a pipeline of diffusers: a folder, or a name on the Hugging Face Hub
RUNS=${RUNS:-outputs/runs}             # every run gets a folder below
CP_SIZE=${CP_SIZE:-1}                  # GPUs that share one video
MAX_SEEDS=${MAX_SEEDS:-}               # candidates of each job at most; empty: all of the list
GUIDANCE_SCALE=${GUIDANCE_SCALE:-0}    # 0: off; lists are made plain unless a scale is given
VARIANTS=${VARIANTS:-}                 # plain, guided or "plain guided"; empty: what the scale says
MAX_RESTARTS=${MAX_RESTARTS:-3}        # of all processes, after one died
REPORT=${REPORT:-1}                    # 1: end with the report page

# Where it runs. One machine needs none of these; in a SLURM allocation they come from there.
NPROC=${NPROC:-${SLURM_GPUS_ON_NODE:-}} # processes per machine; empty: one per GPU, or one on a CPU
NODES=${NODES:-${SLURM_NNODES:-1}} # machines
RDZV_ENDPOINT=${RDZV_ENDPOINT:-}   # host:port of one of them, the same on all (several machines without SLURM)
RDZV_ID=${RDZV_ID:-${SLURM_JOB_ID:-batch}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}

# --- what follows from them --------------------------------------------------------------------------

export PYTHONPATH="$root:$root/MAGI-1${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
if [[ -z ${PYTHON:-} && -x $root/.venv/bin/python ]]; then
    python=$root/.venv/bin/python
fi

fail() {
    echo "error: $1" >&2
    exit 2
}

gpus_here() {
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true
    else
        echo 0
    fi
}

# Sets rendezvous (of torchrun) and srun (the words before it).
find_rendezvous() {
    srun=()
    rendezvous=(--standalone)
    if ((NODES == 1)); then
        return
    fi
    local endpoint=$RDZV_ENDPOINT
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        srun=(srun --nodes "$NODES" --ntasks "$NODES" --ntasks-per-node 1 --kill-on-bad-exit=0)
        if [[ -z $endpoint ]]; then
            # Read to its end: closing a pipe after the first line can stop scontrol, and with it this script.
            local hosts
            hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
            endpoint=${hosts%%$'\n'*}:$((20000 + SLURM_JOB_ID % 20000))
        fi
    fi
    [[ -n $endpoint ]] || fail "NODES=$NODES needs RDZV_ENDPOINT=host:port, the same on all machines"
    rendezvous=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "$RDZV_ID")
}

# Sets flags: those of wmreward batch.
find_flags() {
    flags=(--jobs "$JOBS" --runs "$RUNS" --guidance_scale "$GUIDANCE_SCALE")
    if [[ -n $PIPELINE ]]; then
        flags+=(--pipeline "$PIPELINE")
    else
        flags+=(--config_file "$CONFIG" --cp_size "$CP_SIZE")
    fi
    if [[ -n $MAX_SEEDS ]]; then
        flags+=(--max_seeds "$MAX_SEEDS")
    fi
    if [[ -n $VARIANTS ]]; then
        local variants
        read -ra variants <<<"$VARIANTS"
        flags+=(--variants "${variants[@]}")
    fi
    if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
        local first=${SLURM_ARRAY_TASK_MIN:-0} step=${SLURM_ARRAY_TASK_STEP:-1}
        flags+=(--share "$(((SLURM_ARRAY_TASK_ID - first) / step + 1))/$SLURM_ARRAY_TASK_COUNT")
    fi
}

# launch "$@": all jobs of the list $JOBS. --dry-run prints launch line and plan instead; other words are
# handed on to wmreward batch. Ends the script with its exit code: 0 when all is there, 1 when something failed,
# 143 after SIGTERM and 130 after Ctrl-C, when the same command goes on.
launch() {
    local dry=0 word
    local -a rest=()
    for word in "$@"; do
        if [[ $word == --dry-run || $word == --dry_run ]]; then dry=1; else rest+=("$word"); fi
    done
    local nproc=${NPROC:-$(gpus_here)}
    ((nproc > 0)) || nproc=$CP_SIZE
    local threads=$(($(getconf _NPROCESSORS_ONLN) / nproc))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))} OMP_WAIT_POLICY=PASSIVE
    find_rendezvous
    find_flags
    local -a line=(
        "${srun[@]}" "$python" -m generation.launch "${rendezvous[@]}" # torchrun
        --nproc-per-node "$nproc" --max-restarts "$MAX_RESTARTS"
        # After -- torchrun takes no word for one of its own, such as --run for its --run-path.
        -m -- generation.batch "${flags[@]}" "${rest[@]}"
    )
    if ((dry)); then
        printf '%q ' "${line[@]}"
        echo
        exec "$python" -m generation.batch "${flags[@]}" "${rest[@]}" --dry_run --processes "$((nproc * NODES))"
    fi
    run_to_its_end "${line[@]}"
}

# Pass SIGTERM on and wait; Ctrl-C reaches all processes of the terminal by itself.
run_to_its_end() {
    local ended code=0 caught=0 pid=''
    ended=$(mktemp)
    # shellcheck disable=SC2064 # the name is known now
    trap "rm -f '$ended'" EXIT
    export WMREWARD_EXIT_FILE=$ended
    trap 'caught=143; [[ -n $pid ]] && kill -TERM "$pid" 2>/dev/null' TERM
    trap 'caught=130' INT
    (
        trap - INT # else a shell has Ctrl-C ignored in the background
        exec "$@"
    ) &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        wait "$pid" && code=0 || code=$?
    done
    local own='' folder=''
    { read -r own && read -r folder; } <"$ended" || true
    if ((caught)); then
        exit "$caught"
    fi
    if ((code == 0)) && [[ -n $own ]]; then
        code=$own
    fi
    if ((REPORT)) && [[ -n $folder ]]; then
        "$python" -m wmreward report "$folder" || true
    fi
    exit "$code"
}
