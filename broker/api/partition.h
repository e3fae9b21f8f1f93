/* partition: finding what a data request names, and refusing what it may not have. */
#pragma once

#include "broker/api/request.h"
#include "broker/log/log.h"
#include "broker/meta/meta.h"

/* The topic, by id if `id` is not NULL, else by name, for an operation. NULL with *ret_code:
 * unknown, or not allowed. */
struct topic *request_topic(const struct request *req, struct str name, const struct uuid *id,
                            enum acl_operation op, int16_t *ret_code);

/* A partition's log. NULL with *ret_code: unknown, or another's. */
struct log *request_log(const struct request *req, const struct topic *t, int32_t partition,
                        int16_t *ret_code);

/* What current_leader_epoch of a request says against the log's: NONE, FENCED_LEADER_EPOCH,
 * UNKNOWN_LEADER_EPOCH. -1: not checked. */
int16_t check_leader_epoch(const struct log *log, int32_t epoch);
