/* load: what the load programs of both libraries share: arguments, what was used, one line of JSON.
 *
 *     load_rivulet produce BROKER TOPIC RECORDS SIZE BATCH-BYTES
 *     load_rivulet consume BROKER TOPIC RECORDS SIZE BATCH-BYTES
 *     load_rivulet idle    BROKER TOPIC RECORDS SIZE BATCH-BYTES   one producer, one group member
 *
 * A process does one load, so that its CPU time and its memory are those of that load.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct load {
    const char *kind, *broker, *topic, *batch_bytes;
    long records;
    size_t size; /* of a value, bytes */
    char *value;
};

static inline void load_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline struct load load_parse(int argc, char **argv)
{
    if (argc != 7) {
        load_fail("usage", "load produce|consume|idle BROKER TOPIC RECORDS SIZE BATCH-BYTES");
    }
    struct load l = {.kind = argv[1],
                     .broker = argv[2],
                     .topic = argv[3],
                     .batch_bytes = argv[6],
                     .records = strtol(argv[4], NULL, 10),
                     .size = strtoul(argv[5], NULL, 10)};
    l.value = malloc(l.size + 1);
    if (!l.value || l.records <= 0) {
        load_fail("usage", "RECORDS or SIZE");
    }
    for (size_t i = 0; i < l.size; i++) {
        l.value[i] = (char)('a' + i % 26);
    }
    return l;
}

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Resident memory now, KiB; ours alone, without what is shared with other processes: also. */
static inline void load_memory(long *ret_rss_kb, long *ret_private_kb)
{
    char line[256];
    long kb;
    *ret_rss_kb = *ret_private_kb = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %ld", &kb) == 1) {
            *ret_rss_kb = kb;
        } else if (sscanf(line, "Private_Clean: %ld", &kb) == 1 ||
                   sscanf(line, "Private_Dirty: %ld", &kb) == 1) {
            *ret_private_kb += kb;
        }
    }
    if (f) {
        fclose(f);
    }
}

static inline void load_report(const struct load *l, double began, double cpu_before)
{
    long rss_kb, private_kb;
    double seconds = seconds_now() - began;
    double cpu = cpu_seconds() - cpu_before;
    load_memory(&rss_kb, &private_kb);
    printf("{\"kind\":\"%s\",\"records\":%ld,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"rss_kb\":%ld,"
           "\"private_kb\":%ld}\n",
           l->kind, l->records, seconds, cpu, rss_kb, private_kb);
}
