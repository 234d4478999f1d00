-- What a call brings to cells: gathered by their numbers, counted at once, written once. Twin of Cell.learn and Scale.learn in core/effort.py.
local BROUGHT, SUMMED, TOUCHED, CAPS = {}, {}, {}, {}

-- k observations of this sum.
local function bring(i, sum, k)
  local known = BROUGHT[i]
  if known then
    BROUGHT[i], SUMMED[i] = known + k, SUMMED[i] + sum
  else
    BROUGHT[i], SUMMED[i], TOUCHED[#TOUCHED + 1] = k, sum, i
  end
end

-- The wide cells also keep how much the ladder leaves unexplained, once there was one to explain anything.
local function bring_wide(i, sum, k, squares, work, median)
  local w = WIDE[i]
  if not BROUGHT[i] then w.squares, w.works, w.medians = 0, 0, 0 end
  w.squares, w.works, w.medians = w.squares + squares, w.works + work, w.medians + median
  bring(i, sum, k)
end

-- k observations of this sum at once, in a mean of n that forgets beyond `cap` of them.
local function observed(n, mean, sum, k, cap)
  n = n + k
  if n > cap then n = cap end
  return n, k < n and mean + (sum / k - mean) * (k / n) or sum / k
end

-- A role whose scale is another than when its waiting tasks were scored asks for that. What is under way goes on, or a scale that goes up and
-- down would keep it from ever coming to its end; as what it did so far was by another scale, it is asked for once more when it has ended.
local function pack_wide(i, w, k, sum)
  if N[i] > 0 then
    w.n2 = math.min(w.n2 + k, 500)
    local share = math.min(1, k / w.n2)
    w.var, w.work, w.median = w.var + (w.squares / k - w.var) * share, w.work + (w.works / k - w.work) * share, w.median + (w.medians / k - w.median) * share
  end
  local n, mean = observed(N[i], MEAN[i], sum, k, 500)
  if w.role and n >= FEW and math.abs(mean - w.scored) > 0.6931 then
    local entry = redis.call('HGET', K.rescore, w.role)
    local is_under_way = entry and not string.find(entry, '|0|$')
    -- No mean is near to 1000.
    w.scored = is_under_way and 1000 or mean
    if not is_under_way then redis.call('HSET', K.rescore, w.role, str(math.max(now_us, clock_us)) .. '|0|') end
  end
  return string.format('%d %.4f %d %.4f %.4f %.0f %.0f', n, mean, w.n2, w.var, w.scored, w.work, w.median)
end

-- A full generation becomes the old one, and what nobody needed since is forgotten. With a value that is longer than 64 bytes a hash is no list
-- that is searched from its front, for each of a call's cells, however few it has.
local function begin_generation(texts)
  if redis.call('HLEN', K.est) >= 50000 then
    redis.call('UNLINK', K.est_old)
    redis.call('RENAME', K.est, K.est_old)
  end
  texts[#texts + 1], texts[#texts + 2] = '-', string.rep('-', 65)
end

local function save_cells()
  if #TOUCHED == 0 then return end
  local texts, format = {}, string.format
  for at = 1, #TOUCHED do
    local i = TOUCHED[at]
    local k, sum, w = BROUGHT[i], SUMMED[i], WIDE[i]
    texts[2 * at - 1] = NAMES[i]
    texts[2 * at] = w and pack_wide(i, w, k, sum) or format('%d %.4f', observed(N[i], MEAN[i], sum, k, CAPS[i] or 30))
  end
  if HAS_NEW_CELLS then begin_generation(texts) end
  redis.call('HSET', K.est, unpack(texts))
end
