#!/bin/sh
# tests/mpi/sums under mpirun, as two and as three processes; 77 (skipped) without mpirun or a build with Open MPI.
set -eu
program=$1
command -v mpirun >/dev/null || exit 77
mpirun --version 2>/dev/null | grep -q 'Open MPI' || exit 77

run() {  # processes, and more arguments
  count=$1
  shift
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    mpirun -n "$count" --oversubscribe --bind-to none "$program" "$count" "$@"
}

"$program" 1  # without mpirun, alone
for count in 2 3; do
  [ "$(run $count | grep -c "of $count: equal")" = $count ] || { echo "not every process of $count said that all is equal" >&2; exit 1; }
done

# One process that fails must end the others, who wait.
status=0
run 2 abort >/dev/null 2>&1 || status=$?
[ $status = 5 ] || { echo "a failed process should have ended all with status 5, not $status" >&2; exit 1; }
