-- Tasks: places in the queue and the ends of a life, gathered and written once per key.
local PLACED, TAKEN, LANES = {}, {}, {}

local function put(buffer, key, score, member)
  local list = buffer[key]
  if not list then
    list = {}
    buffer[key] = list
  end
  if score then list[#list + 1] = score end
  list[#list + 1] = member
end

local function load_task(id)
  local f = redis.call('HMGET', k_task(id), 'state', 'role', 'lane', 'd', 'ready_us', 'order_us', 'nonce', 'close', 'agent', 'attempt', 'failures', 'losses', 'kids', 'cost', 'category', 'granted_us')
  if not f[1] then return nil end
  local t = {
    id = id, state = f[1], role = f[2], lane = f[3], ready = f[5], order = f[6], nonce = f[7], close = f[8], agent = f[9],
    attempt = tonumber(f[10] or 0), failures = tonumber(f[11] or 0), losses = tonumber(f[12] or 0), kids = f[13],
    cost = tonumber(f[14]), category = f[15], granted_us = tonumber(f[16] or 0),
  }
  local priority, max_failures, timeout_ms, delay_us = string.match(f[4], '^(%a+)|(%d+)|(%d+)|(%-?%d+)|')
  t.priority, t.max_failures, t.timeout_ms, t.delay_us = priority, tonumber(max_failures), tonumber(timeout_ms), tonumber(delay_us)
  return t
end

-- Puts a task into the queue. ready and order are text, as stored.
local function place(t)
  put(PLACED, k_pending(t.role), t.ready, t.id)
  put(PLACED, k_lane(t.lane), t.order, t.id)
  LANES[t.lane] = t.role
  WAKE = true
end

-- Puts a task into the queue with a place of its own from now on.
local function place_now(t)
  local ready = tick_us()
  t.ready, t.order = str(ready), str(ready + t.delay_us)
  redis.call('HSET', k_task(t.id), 'state', 'pending', 'ready_us', t.ready, 'order_us', t.order)
  place(t)
end

local function take(t)
  put(TAKEN, k_pending(t.role), nil, t.id)
  put(TAKEN, k_lane(t.lane), nil, t.id)
  LANES[t.lane] = t.role
end

-- Ends a task for good. The caller has removed it from where it was.
local function finish(t, state, reason, took_ms)
  local at = str(now_us)
  redis.call('HSET', k_task(t.id), 'state', state, 'ended_us', at, 'reason', reason, 'took_ms', took_ms)
  redis.call('ZADD', K[state], at, t.id)
  if redis.call('HINCRBY', K.laneref, t.lane, -1) <= 0 then
    redis.call('HDEL', K.laneref, t.lane)
    redis.call('HDEL', K.lanedef, t.lane)
  end
  if t.kids then redis.call('ZADD', K.release, at, t.id) end
  count(t.role, state, 1)
end

-- Closes a task's open lease for good. True when this call removed it; only then did capacity change.
local function close_lease(t, a, how)
  local record = redis.call('HGET', k_held(a.id), t.nonce)
  if not record then return false end
  local cost, entry = string.match(record, '^%S+ (%d+) %d+ (%S+)')
  redis.call('HDEL', k_held(a.id), t.nonce)
  give_back(a, tonumber(cost))
  redis.call('XDEL', k_inbox(a.id), entry)
  redis.call('ZREM', K.leases, t.id)
  redis.call('HSET', k_task(t.id), 'close', how)
  return true
end

-- A try failed: the next one after a delay, or the end.
local function fail_try(t, reason, retry_delay_us)
  local failures = t.failures + 1
  redis.call('HSET', k_task(t.id), 'failures', failures)
  count(t.role, 'failed_attempts', 1)
  if failures >= t.max_failures then
    finish(t, 'dead', reason, str(math.floor((now_us - t.granted_us) / 1000)))
    return 'dead'
  end
  redis.call('HSET', k_task(t.id), 'state', 'failed', 'reason', reason)
  redis.call('ZADD', K.failed, str(now_us + retry_delay_us), t.id)
  return 'retry'
end

local function save_tasks()
  for key, members in pairs(TAKEN) do redis.call('ZREM', key, unpack(members)) end
  for key, pairs_ in pairs(PLACED) do redis.call('ZADD', key, unpack(pairs_)) end
  for lid, role in pairs(LANES) do
    local head = redis.call('ZRANGE', k_lane(lid), 0, 0, 'WITHSCORES')
    if head[1] then redis.call('ZADD', k_lanes(role), head[2], lid) else redis.call('ZREM', k_lanes(role), lid) end
  end
end
