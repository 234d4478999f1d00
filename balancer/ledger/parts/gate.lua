-- The gate before agents that fail nearly all that they try. Twin of Gate and next_gate in core.
-- Who fails nearly all that it tries is of a class of its own, `+shut`, in which it gets nothing while others could have the task; and after
-- a while of another one, `+probe`, in which it gets one. They are as fast as they declare, or nobody would probe them.
-- By class id: shut, probe or false. Settle asks for each try.
local GATES = setmetatable({}, {
  __index = function(gates, cid)
    local tail = string.sub(cid, -5)
    gates[cid] = tail == '+shut' and 'shut' or tail == 'probe' and tail
    return gates[cid]
  end,
})
local function gated_class(cid, def, gate)
  if not gate then return cid, def end
  return cid .. '+' .. gate, string.sub(def, 1, -2) .. ',"gate":"' .. gate .. '"}'
end

local function move_gate(a, gate)
  local declared, plain = declared_class(a)
  if plain == '' then return false end
  local cid, def = gated_class(declared, plain, gate)
  enter_class(a, cid, def, '')
  return true
end

-- Whoever fails nearly all that it tries is shut out; whoever completes its one task has done with what is held against it. Asked of every
-- agent of which something was noted. Whether nothing is held against it.
local LEAST_SHARE
local function judge_gate(a)
  local p, gate = a.pace, GATES[a.class]
  if a.state ~= 'live' or not gate and not (a.has_failed and p.tries >= 20) then return not gate end
  LEAST_SHARE = LEAST_SHARE or tonumber(redis.call('HGET', K.settings, 'min_success') or 0) / 10000
  local is_well = p.share >= LEAST_SHARE
  if gate == 'probe' then is_well = LEAST_SHARE == 0 or not a.has_failed end
  local to = not is_well and 'shut'
  if to == gate or not move_gate(a, to) then return not gate end
  if gate == 'probe' and not is_well then redis.call('HINCRBY', k_agent(a.id), 'pace_probes', 1) end
  if is_well then
    redis.call('HDEL', k_agent(a.id), 'pace_probes')
    if gate == 'probe' then p.tries, p.share = 0, 1 end
  end
  event('agent_' .. (is_well and 'trusted' or 'failing'), '-', a.id, text(p.tries))
  return is_well
end
