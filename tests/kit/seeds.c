#include "tests/kit/seeds.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A broken check ends the process: each run has one of its own, so that the seed can be told. */
static bool run_apart(uint64_t (*run)(uint64_t seed), uint64_t seed, uint64_t *ret_seen)
{
    int pipes[2];
    if (pipe(pipes)) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGABRT, SIG_DFL);
        signal(SIGILL, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        uint64_t seen = run(seed);
        bool told = write(pipes[1], &seen, sizeof seen) == sizeof seen;
        fflush(NULL);
        exit(told ? 0 : 1);
    }
    close(pipes[1]);
    uint64_t seen = 0;
    bool good = read(pipes[0], &seen, sizeof seen) == sizeof seen;
    int status = 0;
    good = waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status) && good;
    close(pipes[0]);
    *ret_seen += seen;
    return good;
}

void seeds_run(uint64_t (*run)(uint64_t seed), uint64_t count, uint64_t least)
{
    const char *seed = getenv("SEED");
    const char *runs = getenv("RUNS");
    const char *from = getenv("FIRST");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : from ? strtoull(from, NULL, 10) : 1;
    uint64_t seen = 0;
    count = seed ? 1 : runs ? strtoull(runs, NULL, 10) : count;
    for (uint64_t i = first; i < first + count; i++) {
        if (!run_apart(run, i, &seen)) {
            fail_msg("SEED=%llu", (unsigned long long)i);
        }
    }
    print_message("%llu runs, %llu seen\n", (unsigned long long)count, (unsigned long long)seen);
    assert_true(seen > count * least);
}
