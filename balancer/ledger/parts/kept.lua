-- What was learned of an agent, when it is heard of: kept, eased or forgotten. Twin of core/pace.py.
local function read_steps(text)
  local steps = {}
  for name, n in string.gmatch(text or '', '"([^"]*)":(%-?%d+)') do steps[name] = tonumber(n) end
  return steps
end

-- The figures that were slower come a step nearer to what is declared.
local function ease(steps)
  local new, base = {}, steps[''] or 0
  if base < 0 then base = base + 1 end
  for name, n in pairs(steps) do
    if n < 0 then n = n + 1 end
    if name ~= '' and n ~= base then new[name] = n end
  end
  if base ~= 0 then new[''] = base end
  return new
end

-- So many are eased a call at most: each is moved to another class, and a whole fleet may have been idle. The others' next heartbeat does it.
local MOST_EASED, EASED = 20, 0

-- For how long none of its tries was looked at: kept of those that are gated or slower than they declare (save_paces). Heartbeats and a
-- resumption move freed_us, too.
local function untried_us(a) return now_us - tonumber(redis.call('HGET', k_agent(a.id), 'pace_us') or a.freed_us) end

-- Who counts as slow is tried seldom, so it cannot show that it no longer is. After half an hour without a try, or twenty times as long as
-- those of its role take, it comes a step nearer to what it declares, and what was seen of it counts half.
local function eased(a, cid, learned)
  if a.n > 0 or EASED == MOST_EASED or not string.find(learned, ':-', 1, true) then return learned end
  local idle_us = untried_us(a)
  if idle_us < 1800000000 or idle_us < 20 * tonumber(redis.call('HGET', k_role(a.role), 'service_us') or 0) then return learned end
  local packed = pack_steps(ease(read_steps(learned)))
  if not has_room(a.class, (learned_class(cid, '', packed))) then return learned end
  EASED = EASED + 1
  local function half(n) return str(math.floor(n / 2)) end
  local names, changed = {}, { 'learned', packed, 'pace_us', str(now_us) }
  for _, name in ipairs(redis.call('HKEYS', k_agent(a.id))) do
    if name == 'pace' or string.find(name, '^pace:') then names[#names + 1] = name end
  end
  for i, seen in ipairs(names[1] and redis.call('HMGET', k_agent(a.id), unpack(names)) or {}) do
    local n, mean, rest = string.match(seen, '^(%d+)( %-?%d+)(.*)$')
    changed[#changed + 1], changed[#changed + 2] = names[i], half(n) .. mean .. (string.gsub(rest, '%d+', half, 1))
  end
  redis.call('HSET', k_agent(a.id), unpack(changed))
  return packed
end

-- Whether one that is shut out is given its one task. Twin of shut_s. A restart makes it be tried soon, but never more than once a minute.
local function half_opens(a, b)
  local failed = tonumber(redis.call('HGET', k_agent(a.id), 'pace_probes') or 0)
  if a.boot ~= b.boot and failed > 0 then
    redis.call('HSET', k_agent(a.id), 'pace_probes', 0)
    failed = 0
  end
  return a.n == 0 and untried_us(a) >= 1000000 * math.min(1800, 60 * 2 ^ failed)
end

-- What was learned of an agent stays with it while it declares the same speeds, over restarts too; else it was seen as somebody else.
local function keep_pace(a, b, learned, specs, speeds)
  if a.role == b.role and specs == b.specs and (speeds or '') == b.speeds then
    local gate = GATES[a.class]
    if gate then
      b.class, b.def = gated_class(b.class, b.def, gate == 'shut' and half_opens(a, b) and 'probe' or gate)
      return
    end
    b.class, b.def = learned_class(b.class, b.def, eased(a, b.class, learned or ''))
    return
  end
  for _, name in ipairs(redis.call('HKEYS', k_agent(a.id))) do
    if name == 'learned' or string.find(name, '^pace') then redis.call('HDEL', k_agent(a.id), name) end
  end
end
