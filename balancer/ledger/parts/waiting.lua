-- Where tasks wait, and until when; what is written is gathered and written once per key.
local PLACED, TAKEN, LANES = {}, {}, {}
-- Whether any waiting task may expire; asked once a call, by the first that needs to know.
local MAY_EXPIRE
-- The states of work that no agent holds and that has not ended.
local WAITING = { scheduled = true, blocked = true, pending = true, failed = true }

-- The packed facts: priority, max_failures, timeout_ms.
local function facts(t)
  local priority, max_failures, timeout_ms = string.match(t.d, '^(%a+)|(%d+)|(%d+)|')
  return priority, tonumber(max_failures), tonumber(timeout_ms)
end

-- What orders the queue, read once a call by the first that needs to know: a number a priority, and how far a strict priority goes ahead.
local RANKS, ORDER_BY = { critical = 3, high = 2, medium = 1, low = 0 }, nil
local function order_by(said)
  if not ORDER_BY then
    local queue, strict, each = string.match(said or redis.call('HGET', K.settings, 'order_by'), '^([%a_]+)|([01])|(.+)$')
    local critical, high, medium, low = string.match(each, '^([^|]+)|([^|]+)|([^|]+)|([^|]+)$')
    ORDER_BY = { by_effort = queue == 'effort', step_us = strict == '1' and 2251799813685248 or 0,
      critical = tonumber(critical), high = tonumber(high), medium = tonumber(medium), low = tonumber(low) }
  end
  return ORDER_BY
end

-- A task's place: its ready time plus the delay that it can afford, as text; exact, whatever its parts. Twin of QueueOrder.
local function order_of(t)
  local by, priority = order_by(), t.priority or string.match(t.d, '^%a+')
  local delay_us = -by[priority]
  if by.by_effort then delay_us = math.min(315360000000000, math.floor(1000 * string.match(t.e, '^%d+') / by[priority])) end
  return str(math.min(9007199254740991, t.ready + delay_us) - by.step_us * RANKS[priority])
end

-- The packed options: policy, expires_us, max_wait_ms, dedup. A task that uses none has no such field.
local function options(t)
  if not t.o then return 'fail', 0, 0, '' end
  local policy, expires_us, max_wait_ms, dedup = string.match(t.o, '^(%a+)|(%d+)|(%d+)|(%x*)$')
  return policy, tonumber(expires_us), tonumber(max_wait_ms), dedup
end

-- A task waits from now on in this state: it counts as waiting, and the moment at which it expires is noted.
local function begin_wait(t, state)
  if t.state and not WAITING[t.state] then count(t.role, 'returned', 1) end
  if not t.o then return end
  local _, moment_us, max_wait_ms = options(t)
  if state == 'pending' and max_wait_ms > 0 and (t.attempt or 0) == 0 then
    local most_us = tonumber(t.ready) + 1000 * max_wait_ms
    if moment_us == 0 or most_us < moment_us then moment_us = most_us end
  end
  if moment_us > 0 then put(PLACED, K.expiry, str(moment_us), t.id) end
end

local function forget_expiry(id)
  if MAY_EXPIRE == nil then MAY_EXPIRE = redis.call('EXISTS', K.expiry) == 1 end
  if MAY_EXPIRE then put(TAKEN, K.expiry, nil, id) end
end

-- Puts a task into the queue. ready and order are text, as stored.
local function place(t)
  if t.o or t.state then begin_wait(t, 'pending') end
  put(PLACED, k_pending(t.role), t.ready, t.id)
  put(PLACED, k_lane(t.lane), t.order, t.id)
  LANES[t.lane] = t.role
  WAKE = true
end

-- Puts a task back into the queue, ready since when it was. What orders the queue may be another than when it was taken.
local function place_again(t)
  t.order = order_of(t)
  redis.call('HSET', k_task(t.id), 'order_us', t.order)
  place(t)
end

-- Puts a task into the queue with a place of its own from now on.
local function place_now(t)
  t.ready = str(tick_us())
  t.order = order_of(t)
  redis.call('HSET', k_task(t.id), 'state', 'pending', 'ready_us', t.ready, 'order_us', t.order)
  place(t)
end

-- Puts a task aside until its time.
local function schedule(t)
  put(PLACED, K.scheduled, str(t.not_before_us), t.id)
  count(t.role, 'scheduled', 1)
  begin_wait(t, 'scheduled')
end

-- A task whose parents are done waits for its time, where it has one, or for capacity. The state that it is in now.
local function make_ready(t)
  if t.not_before_us <= now_us then
    place_now(t)
    return 'pending'
  end
  redis.call('HSET', k_task(t.id), 'state', 'scheduled')
  schedule(t)
  return 'scheduled'
end

local function take(t)
  forget_expiry(t.id)
  put(TAKEN, k_pending(t.role), nil, t.id)
  put(TAKEN, k_lane(t.lane), nil, t.id)
  LANES[t.lane] = t.role
end

-- Takes a waiting task from where it waits. The removal goes first: after it the rest runs even when Redis is out of memory.
local function stop_waiting(t)
  redis.call('ZREM', t.state == 'pending' and k_pending(t.role) or K[t.state], t.id)
  if t.state == 'pending' then take(t) end
  if t.state == 'scheduled' then count(t.role, 'scheduled', -1) end
end
