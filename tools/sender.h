/* sender: records to a topic, for produce and copy: hands them over with back-pressure, counts
 * their fates, and reads them from a file or a pipe. */
#pragma once

#include "tools/record.h"
#include "tools/terminal.h"

struct sender {
    struct tool *tool;
    struct rv_client *client; /* borrowed */
    struct rv_producer *producer;
    const char *topic;
    int64_t partition;     /* -1: the partitioner, or the input, chooses */
    bool tells;            /* each delivery as a line of JSON */
    struct stop *stop;     /* borrowed */
    size_t record_limit;   /* bytes; max.request.size */
    uint64_t sent;         /* records handed over */
    uint64_t delivered;    /* of those */
    uint64_t failed;       /* of those */
    bool output_failed;    /* a line of JSON could not be written */
    struct rv_error first; /* failure */
    struct progress progress;
};

/* Opens the producer on `client`: -z over -X over what suits a command line. */
int sender_open(struct sender *s, struct tool *t, struct rv_client *client, const char *topic);

/* Hands a record over, waiting for room as long as it takes: what cannot be delivered ends by its
 * own time-out. Its topic is set here. `where` says in errors which record it is. Stops early,
 * EXIT_DONE, when Ctrl-C comes while it waits. */
int sender_send(struct sender *s, struct rv_message *m, const char *where);

/* All records that `fd` brings, until its end, an error or Ctrl-C. */
int sender_send_input(struct sender *s, int fd, struct record_in *in);

/* Waits for all deliveries, and tells how many records failed. Ctrl-C again ends the waiting. */
int sender_end(struct sender *s, int code);
void sender_close(struct sender *s);
