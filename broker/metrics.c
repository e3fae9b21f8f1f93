#include "broker/metrics.h"

const struct metric_info metric_infos[] = {
#define X(counter, sentence)                                                                       \
    {.name = #counter, .text = sentence, .offset = offsetof(struct metrics, counter)},
#include "broker/metrics.def"
#undef X
};

const int metric_info_count = (int)(sizeof metric_infos / sizeof *metric_infos);
