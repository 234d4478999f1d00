-- Steps: how many times 1.25 faster than declared an agent counts, all over and at categories. Twin of core/pace.py.

-- The step that a level amounts to; it stays where it is while the level is near.
local function step_at(step, level)
  if level - step <= 0.6 and step - level <= 0.6 then return step end
  return math.max(-8, math.min(4, math.floor(level + 0.5)))
end

-- How many steps faster than declared it should count: all over, and at the categories of this call that have enough tries. Nil where
-- that moves none of its steps: nearly always.
local function levels_of(a, steps)
  local p, was, levels = a.pace, steps[''] or 0, {}
  local weight, lost = math.max(4, 16 * a.var / 0.09), 0
  if p.share < 1 then lost = math.log((p.tries * p.share + 10) / (p.tries + 10)) end
  local all = p.n * p.mean / (p.n + weight)
  local level = (all + lost) / LOG_STEP
  local moves = step_at(was, level) ~= was
  for category, own in pairs(a.paces) do
    if own and own.n >= 8 then
      levels[category] = ((own.n * own.mean + weight * all) / (own.n + weight) + lost) / LOG_STEP
      moves = moves or step_at(steps[category] or was, levels[category]) ~= (steps[category] or was)
    end
  end
  if moves then return level, levels end
end

-- The steps that follow from these: at most three categories differ from all others.
local function next_steps(steps, all, levels)
  local was, new = steps[''] or 0, {}
  local base = step_at(was, all)
  for category, level in pairs(levels) do new[category] = step_at(steps[category] or was, level) end
  for category, step in pairs(steps) do
    if category ~= '' and not new[category] then new[category] = step end
  end
  local others = {}
  for category, step in pairs(new) do others[#others + 1] = { category, math.abs(step - base) } end
  table.sort(others, function(one, other)
    if one[2] ~= other[2] then return one[2] > other[2] end
    return is_before(one[1], other[1])
  end)
  for i, other in ipairs(others) do
    if i > 3 or other[2] == 0 then new[other[1]] = nil end
  end
  if base ~= 0 then new[''] = base end
  return new
end
