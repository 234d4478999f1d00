-- Tasks: read, and the ends of a life; what is written is gathered and written once per key.
local CLOSED, REFS, DEFS = {}, {}, {}

-- The first ten suffice for a try that completed; a shorter read is a faster one.
local FIELDS = {
  'state', 'role', 'lane', 'nonce', 'attempt', 'agent', 'kids', 'category', 'e', 'l',
  'd', 'cost', 'close', 'losses', 'failures', 'grant', 'ready_us', 'order_us', 'o', 'not_before_us', 'r',
}
local function load_task(id, most)
  local f = redis.call('HMGET', k_task(id), unpack(FIELDS, 1, most or #FIELDS))
  if not f[1] then return nil end
  if most then
    return { id = id, state = f[1], role = f[2], lane = f[3], nonce = f[4], attempt = tonumber(f[5] or 0), agent = f[6], kids = f[7], category = f[8], e = f[9], effort = f[10] }
  end
  return {
    id = id, state = f[1], role = f[2], lane = f[3], nonce = f[4], attempt = tonumber(f[5] or 0), agent = f[6], kids = f[7], category = f[8],
    e = f[9], effort = f[10], d = f[11], cost = tonumber(f[12]), close = f[13], losses = tonumber(f[14] or 0), failures = tonumber(f[15] or 0),
    granted_us = tonumber(string.match(f[16] or '0', '^%d+')), ready = f[17], order = f[18], o = f[19], not_before_us = tonumber(f[20] or 0), requires = f[21],
  }
end

-- Whether a task of this lane goes alone to an agent that holds nothing.
local function is_alone(lid) return string.find(lid, '+alone', 1, true) ~= nil end

-- Ends a task for good. The caller has removed it from where it was.
local function finish(t, state, reason, took_ms)
  local at = str(now_us)
  local ended = { 'state', state, 'ended_us', at, 'reason', reason, 'took_ms', took_ms }
  if t.close then ended[9], ended[10] = 'close', t.close end
  redis.call('HSET', k_task(t.id), unpack(ended))
  put(PLACED, K[state], at, t.id)
  REFS[t.lane] = (REFS[t.lane] or 0) - 1
  if t.kids then redis.call('ZADD', K.release, at, t.id) end
  if state == 'cancelled' and t.state == 'blocked' then redis.call('DEL', k_parents(t.id)) end
  count(t.role, state, 1)
  if t.state == 'assigned' then return end
  count(t.role, 'dropped', 1)
  forget_expiry(t.id)
end

-- Closes a task's open lease for good. True when this call removed it; only then did capacity change. The caller stores t.close,
-- and ends the task when t.cancel says that it was being cancelled.
local function close_lease(t, a, how)
  local record = redis.call('HGET', k_held(a.id), t.nonce)
  if not record then return false end
  local cost, entry, flags = string.match(record, '^%S+ (%d+) %d+ (%S+)(.*)')
  redis.call('HDEL', k_held(a.id), t.nonce)
  give_back(a, tonumber(cost))
  put(CLOSED, k_inbox(a.id), nil, entry)
  t.cancel = flags ~= '' and string.match(flags, ' cancel=(%S+)')
  if t.cancel then put(CLOSED, k_inbox(a.id), nil, t.cancel) end
  put(TAKEN, K.leases, nil, t.id)
  t.close = how
  return true
end

local function save_tasks()
  for key, entries in pairs(CLOSED) do redis.call('XDEL', key, unpack(entries)) end
  for key, members in pairs(TAKEN) do redis.call('ZREM', key, unpack(members)) end
  for key, pairs_ in pairs(PLACED) do redis.call('ZADD', key, unpack(pairs_)) end
  for lid, delta in pairs(REFS) do
    if redis.call('HINCRBY', K.laneref, lid, delta) <= 0 then
      redis.call('HDEL', K.laneref, lid)
      redis.call('HDEL', K.lanedef, lid)
    elseif DEFS[lid] then
      redis.call('HSET', K.lanedef, lid, DEFS[lid])
    end
  end
  for lid, role in pairs(LANES) do
    local head = redis.call('ZRANGE', k_lane(lid), 0, 0, 'WITHSCORES')
    if head[1] then redis.call('ZADD', k_lanes(role), head[2], lid) else redis.call('ZREM', k_lanes(role), lid) end
  end
end
