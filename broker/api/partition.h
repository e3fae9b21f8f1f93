/* partition: finding what a data request names, and refusing what it may not have. */
#pragma once

#include "broker/api/request.h"
#include "broker/log/log.h"
#include "broker/meta/meta.h"
#include "broker/shard.h"

/* The topic, by id if `id` is not NULL, else by name, for an operation. NULL with *ret_code:
 * unknown, or not allowed. */
struct topic *request_topic(const struct request *req, struct str name, const struct uuid *id,
                            enum acl_operation op, int16_t *ret_code);

/* What a request wants of one partition: a message to the shard that has it, which runs it with
 * partition_call_log; `done` is back with the request, and releases it last. In the request's
 * arena; what it points to is the other shard's meanwhile, and the arena is not. */
struct partition_call {
    struct message message; /* run and done are the handler's */
    struct uuid topic;
    int32_t partition;
};

/* KERR_NONE: there is such a partition. */
int16_t check_partition(const struct topic *t, int32_t partition);

/* True: dealt with at once, and the request is not held. False: `done` will come, and it is. */
bool partition_call_send(struct request *req, const struct topic *t, int32_t partition,
                         struct partition_call *call);

/* At the partition's shard. NULL: it is gone meanwhile, NOT_LEADER_OR_FOLLOWER. */
struct log *partition_call_log(const struct partition_call *call);

/* A partition's log, if it is the shard's that the request is at; else NULL. */
struct log *request_log(const struct request *req, const struct topic *t, int32_t partition);

/* What current_leader_epoch of a request says against the log's: NONE, FENCED_LEADER_EPOCH,
 * UNKNOWN_LEADER_EPOCH. -1: not checked. */
int16_t check_leader_epoch(const struct log *log, int32_t epoch);
